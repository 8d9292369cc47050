"""The specification of the settings file: which keys there are, what each takes and means. docs/settings.md is made from here."""

from __future__ import annotations

from stockade.policy.format.shapes import Choice, Form, Key, Many, Missing, Named, Number, Record, Text

# --- texts -------------------------------------------------------------------------------------------------------------------------------

NAME = Text(
    "a name",
    (Form("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "bad_name", "`{text}` is no name", "letters, digits, `.`, `_`, `-`; at most 64"),),
)
WORD = Text("text")
FILE = Text(
    "an absolute path",
    (
        Form(r"[\s\S]*\x00[\s\S]*|(?:[\s\S]*/)?\.\.(?:/[\s\S]*)?", "bad_file_path", "`{text}` leads upwards", "without `..`", refused=True),
        Form(r"/[\s\S]*", "bad_file_path", "`{text}` is no absolute path", "/var/log/stockade"),
    ),
)
SIZE = Text("a size, as 64M or 1G", (Form("[1-9][0-9]{0,8}[KMGT]i?", "bad_size", "`{text}` is no size", "64M, 1G"),))
DURATION = Text(
    "a length of time, as 500ms, 10s, 5m, 12h or 30d",
    (Form("[1-9][0-9]{0,8}(?:ms|s|m|h|d)", "bad_duration", "`{text}` is no length of time", "500ms, 10s, 5m, 12h, 30d"),),
)
ADDRESS = Text(
    "a host and a port",
    (
        Form(
            r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}",
            "bad_address",
            "`{text}` is no host and port",
            "siem.example.com:6514, 127.0.0.1:514, [::1]:514",
        ),
    ),
)
URL = Text("a URL", (Form(r"https?://[^\s/@]+(?:/\S*)?", "bad_url", "`{text}` is no URL", "https://siem.example.com:8088"),))
SECRET = Text(
    "file:PATH or env:NAME",
    (
        Form(
            r"file:/[^\x00]+|env:[A-Za-z_][A-Za-z0-9_]*",
            "bad_secret",
            "this is no place of a secret",  # and what it is instead may be one
            "file:/etc/stockade/token, env:NAME",
        ),
    ),
)
HEADER = Text(
    "the name of a header",
    (Form(r"[A-Za-z0-9!#$%&'*+.^_|~-]+", "bad_header", "`{text}` is no name of a header", "X-Scope-OrgID"),),
)
HEADER_VALUE = Text(
    "text, file:PATH or env:NAME",
    (Form(r"[\x20-\x7e]+", "bad_header", "a header's value is printable ASCII on one line", "text, file:/etc/stockade/token, env:NAME"),),
)

# --- the audit ---------------------------------------------------------------------------------------------------------------------------

TYPES = ("file", "stdout", "journald", "syslog", "http", "otlp")
PRODUCTS = ("splunk", "elastic", "datadog", "sentinel", "logscale", "webhook")
FORMATS = ("json", "ocsf", "ecs", "cef")
TRANSPORTS = ("udp", "tcp", "tls")
FACILITIES = ("kern", "user", "daemon", "auth", "authpriv", "audit", *(f"local{number}" for number in range(8)))

ROTATE = Record(
    "rotate",
    "rotate",
    "When a file is closed and the next one begun. The chain of a trail goes on over all of its files.",
    (
        Key("size", SIZE, "from this size on", "256M"),
        Key("age", DURATION, "when its first record is older than this", "never for its age"),
        Key(
            "keep",
            Number("a number of files", 1, 999_999, "bad_number"),
            "how many closed files are kept; the oldest goes first, and of a trail a signed record says so",
            "all",
        ),
    ),
)
CHECKPOINT = Record(
    "checkpoint",
    "checkpoint",
    "When the trail is signed and put on the disk: after whichever comes first, at rotation, and at the end.",
    (
        Key("records", Number("a number of records", 1, 1_000_000, "bad_number"), "after so many records", "1000"),
        Key("seconds", Number("a number of seconds", 0.1, 3600, "bad_number", whole=False), "after so long, when something is new", "10"),
    ),
)
BATCH = Record(
    "batch",
    "batch",
    "How many records travel together. One is sent when it is full, or when its first record has waited so long.",
    (
        Key("records", Number("a number of records", 1, 10_000, "bad_number"), "at most so many", "500"),
        Key("size", SIZE, "at most so large", "1M"),
        Key("wait", DURATION, "how long a record waits for others", "1s"),
    ),
)
SINK = Record(
    "a sink",
    "sink",
    "Where records are sent beside the trail. What it has not taken yet waits in the trail itself, in order, also over a restart.",
    (
        Key(
            "type",
            Choice(TYPES),
            "how records get there",
            missing=Missing("missing_key", "a sink has no `type`", ", ".join(TYPES)),
        ),
        Key("name", NAME, "what records and metrics call it", "its product, or its type"),
        Key("format", Choice(FORMATS), "how a record is written", "json"),
        Key("path", FILE, "file: where; `{trail}` in it stands for the trail's name"),
        Key("rotate", ROTATE, "file: when the next file is begun", "as the trail"),
        Key("address", ADDRESS, "syslog: the receiver"),
        Key("transport", Choice(TRANSPORTS), "syslog: over what. UDP loses what the network loses, and says nothing", "tls"),
        Key("facility", Choice(FACILITIES), "syslog: the facility", "local0"),
        Key("product", Choice(PRODUCTS), "http: whose framing", "webhook"),
        Key("url", URL, "http, otlp: the receiver; what of the path may be left out stands in docs/audit-sinks.md"),
        Key("token", SECRET, "http: the credential, sent the way the product wants it"),
        Key("headers", Named(HEADER, HEADER_VALUE, "NAME: text, file:PATH or env:NAME"), "http, otlp: more headers"),
        Key("index", WORD, "splunk, elastic: the index or data stream", "splunk: the token's own; elastic: logs-stockade-default"),
        Key("tags", Named(WORD, WORD, "key: value"), "datadog, logscale: tags of every record"),
        Key("tenant", WORD, "sentinel: the directory that the application is registered in"),
        Key("client", WORD, "sentinel: the application; `token` is its secret"),
        Key("rule", WORD, "sentinel: the immutable id of the data collection rule"),
        Key("stream", WORD, "sentinel: the stream of that rule, as Custom-Stockade"),
        Key("login", URL, "sentinel: who issues tokens", "https://login.microsoftonline.com"),
        Key("ca", FILE, "tls, https: the certificates to trust, PEM", "those of the system"),
        Key("certificate", FILE, "tls, https: our own certificate and its chain, PEM, where the receiver asks for one"),
        Key("key", FILE, "tls, https: the key of that certificate, PEM"),
        Key("timeout", DURATION, "how long one attempt may take", "10s"),
        Key("batch", BATCH, "how many records travel together"),
        Key("behind", SIZE, "how much of the trail it may be behind; what is older is given up, and counted in a record", "1G"),
    ),
)
AUDIT = Record(
    "audit",
    "audit",
    "The trail of every sandbox, and where its records go besides. What happens when it cannot be written is the policy's to say: "
    "`on_audit_failure`.",
    (
        Key("directory", FILE, "where trails are that `--audit` does not name: NAME.jsonl of every sandbox", "/var/log/stockade"),
        Key("key", FILE, "the private key that signs, made when it is missing", "beside each trail"),
        Key("pin", FILE, "a second directory where the end of each trail is written down at every checkpoint; best on another disk"),
        Key("rotate", ROTATE, "when the next file is begun"),
        Key("checkpoint", CHECKPOINT, "when the trail is signed"),
        Key("sinks", Many(SINK), "where records are sent besides"),
        Key(
            "drain", DURATION, "how long the end of a sandbox waits for its sinks; what is left is sent by the next, or by audit ship", "5s"
        ),
    ),
)

# --- the metrics -------------------------------------------------------------------------------------------------------------------------

LISTEN = Text(
    "an address and a port",
    (
        Form(
            r"(?:[0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}",
            "bad_listen",
            "`{text}` is no address and port to listen at",
            "127.0.0.1:9464, [::1]:9464, 127.0.0.1:0 for any port that is free",
        ),
    ),
)
METRICS = Record(
    "metrics",
    "metrics",
    "Numbers about what is decided, for Prometheus: docs/metrics.md. Nothing listens unless this says where, or `--metrics` does.",
    (
        Key("listen", LISTEN, "where; each agent needs a port of its own, so with several at a time say port 0", "nowhere"),
        Key("certificate", FILE, "a certificate and its chain, PEM: the page is then served over TLS"),
        Key("key", FILE, "the key of that certificate, PEM"),
        Key("token", SECRET, "the bearer token without which nobody is answered", "whoever gets there is answered"),
        Key("targets", FILE, "the directory where each agent writes its address for a Prometheus to find", "/run/stockade/metrics"),
    ),
)

# --- the certificate authority -----------------------------------------------------------------------------------------------------------

PKCS11 = Record(
    "pkcs11",
    "pkcs11",
    "A key in a token that speaks PKCS#11: a hardware security module, a smart card, SoftHSM. It stays there.",
    (
        Key(
            "module",
            FILE,
            "the library that speaks to it",
            missing=Missing("missing_key", "`pkcs11` has no `module`", "/usr/lib/softhsm/libsofthsm2.so"),
        ),
        Key("token", WORD, "the label of the token", missing=Missing("missing_key", "`pkcs11` has no `token`", "the token's label")),
        Key("key", WORD, "the label of the private key", missing=Missing("missing_key", "`pkcs11` has no `key`", "the key's label")),
        Key(
            "pin",
            SECRET,
            "where the PIN of the token's user is; the file is root's alone",
            missing=Missing("missing_key", "`pkcs11` has no `pin`", "file:/etc/stockade/ca.pin"),
        ),
    ),
)
CA = Record(
    "ca",
    "ca",
    "Who signs the certificates that a sandbox is shown: docs/ca.md. Without `certificate`, each sandbox trusts a root of its own.",
    (
        Key("life", DURATION, "how long a key signs; after two thirds of it the next one takes over", "7d"),
        Key(
            "certificate",
            FILE,
            "an organisation's CA: the certificate that signs, those above it, the root last, PEM; the sandbox trusts that root",
        ),
        Key("key", FILE, "its key, PEM without a passphrase, root's alone"),
        Key("pkcs11", PKCS11, "or where its key is, when that is in a token"),
        Key(
            "names",
            Many(WORD),
            "what its certificates may be for: names, each with all below it, addresses, CIDRs; `*` for anything",
            "what the policy of each sandbox names",
        ),
    ),
)

# --- a node of a cluster -----------------------------------------------------------------------------------------------------------------

KUBERNETES = Record(
    "kubernetes",
    "kubernetes",
    "What `stockade kubernetes agent` needs to know beside its cluster's policies: docs/kubernetes.md.",
    (
        Key("node", WORD, "the name of this node; the variable NODE_NAME says it first", "NODE_NAME"),
        Key("kubeconfig", FILE, "how the API is reached and as whom", "the service account of the agent's own pod"),
        Key("state", FILE, "the directory where policies and choices are kept for when the API is away", "/var/lib/stockade/kubernetes"),
        Key("kubelet", FILE, "the kubelet's directory", "/var/lib/kubelet"),
        Key(
            "unmatched",
            Choice(("leave", "deny")),
            "a pod that no policy means is left alone, or refused everything; `deny` holds for pods of the system too",
            "leave",
        ),
        Key("networks", Many(WORD), "from where the node itself comes into its pods, for the kubelet's probes: addresses, CIDRs", "none"),
    ),
)

# --- the file ----------------------------------------------------------------------------------------------------------------------------

SETTINGS = Record(
    "a settings file",
    "settings",
    "The whole file. Every section and every key may be left out.",
    (
        Key("version", Choice(("1",), "number", "version"), "the version of this format", "1"),
        Key("audit", AUDIT, "the trail and its sinks"),
        Key("metrics", METRICS, "numbers for Prometheus"),
        Key("ca", CA, "who signs the certificates that a sandbox is shown"),
        Key("kubernetes", KUBERNETES, "a node of a cluster"),
    ),
)
