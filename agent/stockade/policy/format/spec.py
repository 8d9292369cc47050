"""The specification: which keys a policy has, what each takes, what it means, and whether this version carries it out.

Said once, here. From it come the checks of schema.py, policies/schema.json (json_schema.py) and the tables of docs/policy.md
(reference.py). Holds shapes alone: what a host or a path glob may say is hosts.py's and paths.py's. Patterns are held to the whole text
and are written in what Python and ECMA 262, the dialect of JSON Schema, have in common.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.policy.format.shapes import Choice, Form, Key, Many, Missing, Named, Number, Record, Text, Together

# --- texts -------------------------------------------------------------------------------------------------------------------------------

_PLAIN = r"[^/\x00-\x20\x7f-\xa0]"  # a character of a file name that reads as one
_UPWARDS = r"(?:[\s\S]*/)?\.\.(?:/[\s\S]*)?"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, …"

ANY = Text("text")
NAME = Text(
    "a name",
    (Form("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "bad_name", "`{text}` is no name", "letters, digits, `.`, `_`, `-`; at most 64"),),
    title="name",
)
RULE_NAME = Text("the name of a rule")
BINARY = Text(
    "a family, a base name, or an absolute path (with globs)",
    (
        Form(
            r"[\s\S]*\*\*[\s\S]*|/?\*[\s\S]*|[^/]*\*[^/]*",
            "binary_too_broad",
            "`{text}` stands for any program",
            "curl, /usr/bin/curl, /opt/tool/bin/*",
            refused=True,
        ),
        Form(_UPWARDS, "bad_binary", "`{text}` is no binary", "the path without `..`", refused=True),
        Form(
            rf"{_PLAIN}+|/(?:{_PLAIN}|/)+",
            "bad_binary",
            "`{text}` is no binary",
            "a family or base name such as curl, or an absolute path",
        ),
    ),
    title="program",
)
VARIABLE = Text(
    "the name of a variable",
    (Form("[A-Za-z_][A-Za-z0-9_]*", "bad_variable", "`{text}` is no name of a variable", "letters, digits and `_`"),),
    title="variable",
)
USER = Text(
    "a user's name or number",
    (
        Form("nobody|65534", "bad_user", "`{text}` is whoever has no name, and shared", "a user of its own: agent, 1000", refused=True),
        Form("[a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}", "bad_user", "`{text}` is no user", "agent, 1000"),
    ),
    title="user",
    or_number=True,
)
DIRECTORY = Text(
    "an absolute path",
    (
        Form(_UPWARDS, "bad_file_path", "`{text}` leads upwards", "the path without `..`", refused=True),
        Form(r"/[^\x00]*", "bad_file_path", "`{text}` is no absolute path", "/srv/data, without `..`"),
    ),
    title="directory",
)
METHOD = Text(
    "an HTTP method",
    (
        Form("CONNECT", "bad_method", "`{text}` opens a tunnel, which no rule can look into", _METHODS, refused=True),
        Form(
            "(?=[\\s\\S]*[a-z])[A-Za-z][A-Za-z0-9-]*",
            "bad_method",
            "`{text}` is no method; methods are compared as written, in upper case",
            "{upper}",
            refused=True,
        ),
        Form("[A-Z][A-Z0-9-]*", "bad_method", "`{text}` is no method", _METHODS),
    ),
    title="verb",
)
HOST = Text(
    "a host, `*.below.it`, a CIDR, an address, `localhost` or `sandbox:NAME`; each may have a `:port`",
    outline=r"[^\s/?#@]+(?:/[0-9.]+)?",
    title="host",
)
PATH = Text("a path glob: `*` within a segment, `**` across", outline=r"/[^\s?#]*", title="glob")
NETWORK = Text("a CIDR or an address", outline=r"[0-9A-Fa-f:.]+(?:/[0-9.]+)?", title="network")
VISITOR = Text(
    "a CIDR, an address or `sandbox:NAME`",
    outline=r"[0-9A-Fa-f:.]+(?:/[0-9.]+)?|sandbox:[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    title="visitor",
)
SHA256 = Text("a SHA-256", (Form("[0-9a-f]{64}", "bad_sha256", "`{text}` is no SHA-256", "64 hex digits, in lower case"),), title="hash")
REGO = Text(
    "a file", (Form(r"[\s\S]+\.rego", "bad_rego_file", "`{text}` is no Rego file", "./rules.rego, beside the policy"),), title="rego-file"
)
SOURCE = Text("presets/NAME, or a file beside this one")
SYSCALL = Text(
    "the name of a system call",
    (Form("[a-z_][a-z0-9_]*", "bad_syscall", "`{text}` is no system call", "ptrace, io_uring_setup"),),
    title="syscall",
)
SIZE = Text(
    "a size, as 512M or 2G",
    (
        Form(
            "[1-9][0-9]*Ki?|(?:[1-9]|1[0-5])Mi?",
            "bad_size",
            "`{text}` is less than a sandbox takes for itself",
            "16M or more",
            refused=True,
        ),
        Form("[1-9][0-9]*[KMGT]i?", "bad_size", "`{text}` is no size", "512M, 2G"),
    ),
    title="size",
)
CATEGORY = Text(
    "a category of data",
    (Form(r"[a-z]+\.(?:[a-z][a-z0-9_-]*|\*)", "bad_category", "`{text}` is no category", "phi.identifier, pii.person, credential.*"),),
    title="category",
)
CATEGORIES = Text(
    "a category of data, a family of them, or `*` for all",
    (Form(r"\*|[a-z]+\.(?:[a-z][a-z0-9_-]*|\*)", "bad_category", "`{text}` is no category", "phi.identifier, credential.*, *"),),
    title="categories",
)
ONE_CATEGORY = Text(
    "one category, of a known family",
    (
        Form(
            r"(?:phi|pii|financial|credential|ip)\.[a-z][a-z0-9_-]{0,63}",
            "bad_category",
            "`{text}` is no category of a family that is known",
            "phi.identifier, pii.person, ip.project; the families are phi, pii, financial, credential, ip",
        ),
    ),
    title="one-category",
)
URL = Text("a URL", (Form(r"https?://[^\s/]+(?:/\S*)?", "bad_url", "`{text}` is no URL", "http://localhost:11434"),), title="url")

PORT = Number("a port", 1, 65535, "bad_port")
_SHARE = Number("a share", 0, 1, "bad_number", whole=False)


def _needed(name: str, owner: str, accepted: str, why: str = "") -> Missing:
    return Missing("missing_key", f"{owner} has no `{name}`{why}", accepted)


# --- a rule ------------------------------------------------------------------------------------------------------------------------------


def _level(name: str, means: str, entry: Text, *more: Key) -> Record:
    missing = _needed("allow", name, "allow: […]", ", so the rule allows nothing")
    allow = Key("allow", Many(entry), "what the rule allows on this level", missing=missing)
    return Record(name, name, means, (allow, Key("deny", Many(entry), "vetoes, whatever this or another rule allows"), *more))


RULE_KEYS = (
    Key("name", NAME, "records, `explain` and tests point to the rule by it"),
    Key("why", ANY, "what the rule is for"),
    Key("binary", _level("binary", "Which program: the file that the kernel executes.", BINARY), "who"),
    Key(
        "destination",
        _level(
            "destination",
            "Which host.",
            HOST,
            Key("addresses", Many(NETWORK), "where a private address may lie that a host of this rule resolves to"),
        ),
        "where to",
    ),
    Key(
        "port",
        Many(PORT, or_one=True),
        "the ports of destinations that name none",
        "443 and 80; relayed 443; localhost 11434, 8000 and that of privacy.local",
    ),
    Key("method", _level("method", "Which HTTP method, compared as written: GET does not imply HEAD.", METHOD), "how"),
    Key("path", _level("path", "Which canonical path.", PATH), "what"),
    Key("tls", Choice(("inspect", "passthrough")), "passthrough: relay TLS without looking inside; the SNI is still checked", "inspect"),
    Key("protocol", Choice(("http", "tcp")), "tcp: relay bytes without looking inside", "http"),
    Key("ancestors", Many(BINARY), "who must have started the binary, directly or not", "anybody"),
    Key("sha256", Many(SHA256, or_one=True), "what the file of the binary must be", "any file of that name"),
    Key("engine", Choice(("auto", "mitmproxy")), "which proxy looks inside", "auto"),
    Key("scan", Many(CATEGORY), "categories of data that a request of this rule may not carry"),
    Key("on_found", Choice(("deny", "redact")), "what becomes of one that does; a canary is never let out", "deny"),
)

_REQUIRED = {
    "name": _needed("name", "a rule", "name: my-rule", ": records and `explain` point to rules by it"),
    "binary": _needed("binary", "a rule", "binary: {allow: […]}"),
    "destination": _needed("destination", "a rule", "destination: {allow: […]}"),
}
RULE = Record(
    "a rule",
    "rule",
    "One permission: which binary may reach which host, with which method, on which path.",
    tuple(replace(key, missing=_REQUIRED.get(key.name)) for key in RULE_KEYS),
    Together(("method", "path"), unless=(("tls", "passthrough"), ("protocol", "tcp"))),
)
OVERRIDE = Record(
    "an override",
    "override",
    "Keys that replace those of an extended rule; a deny list that an override does not state stays.",
    RULE_KEYS[1:],
)


# --- the sections ------------------------------------------------------------------------------------------------------------------------

EXEC = Record(
    "exec",
    "exec",
    "What may run. Fixed when the sandbox starts.",
    (
        Key("allow", Many(BINARY), "what may run", "the binaries of the file's own rules"),
        Key("deny", Many(BINARY), "what may not, by any of its names"),
        Key("unlisted", Choice(("refuse", "no-network")), "what is not listed: refuse it, or run it without any network", "refuse"),
        Key(
            "writable",
            Choice(("true", "false"), "true or false"),
            "what the sandbox can write may run; records say `identity: weak`",
            "false",
        ),
        Key("env", Many(VARIABLE), "variables of policies/loader_variables.yaml that a binary with network rules may be started with"),
    ),
)
FILESYSTEM = Record(
    "filesystem",
    "filesystem",
    "What is there beside the system, which is read-only, the workdir and private /tmp. Fixed when the sandbox starts.",
    (
        Key("read", Many(DIRECTORY), "shown read-only"),
        Key("write", Many(DIRECTORY), "shown writable"),
        Key("hide", Many(DIRECTORY), "hidden from what is shown; policy files and the audit always are"),
        Key("count", Many(DIRECTORY), "opens below these that succeed are counted and go on record; the innermost counts"),
    ),
)
SECCOMP = Record(
    "process.seccomp",
    "seccomp",
    "Changes to the list of system calls in docs/seccomp.md. What that page says no policy can allow is an error.",
    (Key("allow", Many(SYSCALL), "allowed beyond the list"), Key("deny", Many(SYSCALL), "refused of the list; a denial counts more")),
)
PROCESS = Record(
    "process",
    "process",
    "As whom and with what the command runs. Fixed when the sandbox starts.",
    (
        Key(
            "user",
            USER,
            "who the command is inside: a name, or a number, 0 or `root` too; outside it is always the sandbox's own user",
            "agent",
        ),
        Key("env", Named(VARIABLE, ANY, "NAME: value, or NAME: inherit"), "what is set beside the short list every sandbox has"),
        Key("pids", Number("a number of processes", 1, 4194304, "bad_number"), "how many processes and threads at once", "4096"),
        Key("memory", SIZE, "how much memory, private /tmp and swap included; beyond it the largest process is killed", "no limit"),
        Key("cpu", Number("a number of cores", 0.01, 4096, "bad_number", whole=False), "how many cores' time", "no limit"),
        Key(
            "devices",
            Many(Choice(("nvidia",))),
            "devices that are shown, as far as this machine has them: /dev/nvidia*, /dev/dri, and their driver's libraries",
        ),
        Key("seccomp", SECCOMP, "which system calls it may make", "the built-in list"),
    ),
)
INBOUND = Record(
    "an inbound port",
    "inbound",
    "A port that the agent opens on the host and relays to the same port of the sandbox's loopback: on 127.0.0.1 or ::1 where `from` holds "
    "nothing but loopback of that family, otherwise on every address of it. For other sandboxes alone nothing is opened on the host. It is "
    "read again while the sandbox runs.",
    (
        Key("port", PORT, "the port", missing=_needed("port", "an inbound port", "port: 8080")),
        Key("protocol", Choice(("tcp",)), "the transport; udp is not relayed", "tcp"),
        Key("from", Many(VISITOR), "who may; others are reset", missing=_needed("from", "an inbound port", "from: [10.0.0.0/8]")),
    ),
)

# --- the privacy router ------------------------------------------------------------------------------------------------------------------

_CUSTOM = Record(
    "a custom detector",
    "custom",
    "A pattern of one's own, in RE2's syntax. Its first group is the value where it has one.",
    (
        Key("name", NAME, "what records call it: `custom:NAME`", missing=_needed("name", "a custom detector", "name: ward-code")),
        Key("pattern", ANY, "a regular expression", missing=_needed("pattern", "a custom detector", "pattern: 'W-[0-9]{4}'")),
        Key("category", ONE_CATEGORY, "what it finds", missing=_needed("category", "a custom detector", "category: phi.identifier")),
    ),
)
_DICTIONARY = Record(
    "a dictionary",
    "dictionary",
    "Terms that are found as whole words, whatever their case and spacing. The file is hidden and watched, as a policy is.",
    (
        Key("name", NAME, "what records call it: `dictionary:NAME`", missing=_needed("name", "a dictionary", "name: wards")),
        Key("category", ONE_CATEGORY, "what a term is", missing=_needed("category", "a dictionary", "category: ip.document")),
        Key(
            "file",
            ANY,
            "a text file beside the policy, one term on each line",
            missing=_needed("file", "a dictionary", "file: ./wards.txt"),
        ),
    ),
)
_DETECT = Record(
    "privacy.detect",
    "detect",
    "What counts as sensitive, beside what is always looked for.",
    (
        Key(
            "thresholds",
            Named(CATEGORIES, _SHARE, "category: 0.5"),
            "from which score on a finding counts; the most exact name holds, and of several files the least number",
            "0.5 for each",
        ),
        Key("dictionaries", Many(_DICTIONARY), "lists of terms of one's own"),
        Key("custom", Many(_CUSTOM), "patterns of one's own"),
    ),
)
_ROUTE = Record(
    "a route",
    "route",
    "Where a request goes that holds any of some categories. For each category found, the first route that fits counts; of all categories "
    "the strictest. Routes of a file stand before those of what it extends, and may not loosen them.",
    (
        Key("name", NAME, "records point to the route by it", "route-1, route-2, …"),
        Key("when", Many(CATEGORIES), "any of these was found", missing=_needed("when", "a route", "when: [phi.*]")),
        Key("model", ANY, "for requests to this model only; `*` is any text", "any"),
        Key("endpoint", HOST, "for requests to this host only", "any"),
        Key("sandbox", ANY, "for requests of this sandbox only; `*` is any text", "any"),
        Key("then", Choice(("pass", "redact", "local", "deny")), "what is done", missing=_needed("then", "a route", "then: local")),
    ),
)
_REDACT = Record(
    "privacy.redact",
    "redact",
    "What stands in the place of what is taken out.",
    (
        Key(
            "style",
            Choice(("placeholder", "mask", "hash", "surrogate")),
            "`placeholder` and `surrogate`, an invented value of the same kind, are put back in the answer; `mask` and `hash` are not",
            "placeholder",
        ),
        Key("ttl", Number("seconds", 1, 2_592_000, "bad_number"), "how long a value is remembered after its last use", "3600"),
    ),
)
_LOCAL = Record(
    "privacy.local",
    "local",
    "The model that sensitive requests go to instead. Of several files with this section the first counts, whole.",
    (
        Key("url", URL, "where it listens", missing=_needed("url", "privacy.local", "url: http://localhost:11434")),
        Key("api", Choice(("ollama", "openai")), "what it speaks; vLLM and NIM speak openai", "openai"),
        Key("model", ANY, "which model to ask for", missing=_needed("model", "privacy.local", "model: NAME")),
        Key("models", Named(ANY, ANY, "model asked for: NAME"), "another one for requests to some models; `*` is any text"),
        Key("context", Number("a number of tokens", 1, 100_000_000, "bad_number"), "what it takes whole; more is refused", "8192"),
        Key("timeout", Number("seconds", 1, 3600, "bad_number"), "how long it may say nothing, before its answer and in it", "120"),
        Key("parallel", Number("a number of requests", 1, 10_000, "bad_number"), "how many it is asked at once", "4"),
        Key("queue", Number("a number of requests", 0, 10_000, "bad_number"), "how many more may wait; what is beyond fails", "16"),
        Key("api_key_env", VARIABLE, "the variable of the agent's own environment that holds its key", "no key"),
    ),
)
PRIVACY = Record(
    "privacy",
    "privacy",
    "Where each request to a language model may go. `privacy: {}` switches the router on with the routes of docs/privacy-router.md. It is "
    "read again while the sandbox runs.",
    (
        Key("mode", Choice(("enforce", "audit")), "audit: classify, decide and record, and change nothing", "enforce"),
        Key("endpoints", Many(HOST), "further hosts of language models, beside the known ones"),
        Key("detect", _DETECT, "what counts as sensitive"),
        Key("routes", Many(_ROUTE), "routes of one's own, before the built-in ones"),
        Key("redact", _REDACT, "how"),
        Key("local", _LOCAL, "the local model", "none: what would go there is refused"),
        Key("residency", Named(HOST, ANY, "endpoint: label"), "where an endpoint processes what it is sent"),
        Key("require_residency", Named(CATEGORIES, Many(ANY), "category: [label]"), "where a category may be processed"),
        Key("unreadable", Choice(("deny", "local", "pass")), "a body that cannot be read", "deny"),
        Key("on_failure", Choice(("deny", "local", "pass")), "the classifier fails, or lacks a layer", "deny"),
        Key("on_local_failure", Choice(("deny", "redact")), "the local model fails", "deny"),
    ),
)

# --- a policy ----------------------------------------------------------------------------------------------------------------------------

RULES = Many(RULE)
DOORS = Many(INBOUND)
POLICY = Record(
    "a policy",
    "policy",
    "A whole policy. A file may also be a bare list of rules.",
    (
        Key(
            "version",
            Choice(("1",), "number", "version"),
            "the version of this format",
            missing=Missing("version", "a policy says which version of the format it is written in", "version: 1"),
        ),
        Key("name", NAME, "what records call the policy", "the file's name"),
        Key("labels", Named(ANY, ANY, "key: value"), "stand in every record"),
        Key("extends", Many(SOURCE), "what this policy builds on"),
        Key("override", Named(RULE_NAME, OVERRIDE, "rule-name: {method: …}"), "keys of extended rules that are other here"),
        Key("remove", Many(RULE_NAME), "extended rules that are not wanted here"),
        Key("mode", Choice(("enforce", "observe")), "observe: decide and record without refusing", "enforce"),
        Key("best_effort", Many(Choice(("landlock", "seccomp", "lsm", "limits"))), "what this kernel may lack", "nothing: refuse to start"),
        Key("exec", EXEC, "what may run"),
        Key("filesystem", FILESYSTEM, "what is there"),
        Key("process", PROCESS, "as whom and with what the command runs"),
        Key("network", RULES, "what it may reach", "nothing"),
        Key("rego", Many(REGO), "Rego files beside the rules: either may allow, either may deny"),
        Key("on_audit_failure", Choice(("deny", "continue")), "the audit trail cannot be written", "deny"),
        Key("inbound", DOORS, "ports that others may reach", "none"),
        Key("privacy", PRIVACY, "where each request to a language model may go", "nowhere else: none is read"),
    ),
)
