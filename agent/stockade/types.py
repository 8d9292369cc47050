"""The nouns every part of Stockade shares. Frozen values; nothing of ours is imported here.

Exceptions:

    StockadeError            shown to the user as `message`, `hint`, `code`; never as a traceback
    └── policy.PolicyError   one or more located problems in a policy file
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class StockadeError(Exception):
    """Something the user can act on: what failed with its value, the next command to type, a stable code."""

    def __init__(self, message: str, *, hint: str = "", code: str = "error") -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


class Action(StrEnum):
    """What a record is about."""

    EXEC = "exec"
    DNS = "dns"
    CONNECT = "connect"
    HTTP = "http"
    WEBSOCKET = "websocket"
    INFERENCE = "inference"
    INBOUND = "inbound"
    FILE = "file"
    SYSCALL = "syscall"
    DEVICE = "device"
    POLICY = "policy"
    LIFECYCLE = "lifecycle"


class Level(StrEnum):
    """Where a decision fell."""

    EXEC = "exec"
    BINARY = "binary"
    DESTINATION = "destination"
    METHOD = "method"
    PATH = "path"
    PRIVACY = "privacy"
    STATIC = "static"


class Outcome(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Effect(StrEnum):
    """What was done about it."""

    PASS = "pass"
    RELAY = "relay"
    REFUSE = "refuse"
    REDACT = "redact"
    LOCAL = "local"
    CUT = "cut"


class Reason(StrEnum):
    """The closed list of why: audit field, metric label, test expectation and `explain` output alike."""

    # 1) the policy spoke
    RULE_ALLOW = "rule_allow"
    RULE_DENY = "rule_deny"
    NO_RULE = "no_rule"
    REGO_ALLOW = "rego_allow"
    REGO_DENY = "rego_deny"
    REGO_ERROR = "rego_error"  # it took too long, crashed or answered nonsense: a denial
    REGO_PENDING = "rego_pending"  # a name or connect that Rego may allow: it speaks once method and path are known
    LOCAL_LISTENER = "local_listener"
    # 2) who is asking
    EXEC_ALLOWED = "exec_allowed"
    EXEC_UNLISTED = "exec_unlisted"
    EXEC_DENIED = "exec_denied"
    EXEC_CHANGED = "exec_changed"
    EXEC_ANONYMOUS = "exec_anonymous"
    MAPPING_WRITABLE = "mapping_writable"  # code, from a file that the sandbox may have written
    LOADER_VARIABLE = "loader_variable"
    ENV_UNREADABLE = "env_unreadable"
    IDENTITY_UNKNOWN = "identity_unknown"
    IDENTITY_MISMATCH = "identity_mismatch"
    SOCKET_TAINTED = "socket_tainted"  # another program than the one that connected speaks on the socket, and may not do this itself
    # 3) where to
    AGENT_ADDRESS = "agent_address"
    UNKNOWN_SYNTHETIC = "unknown_synthetic"
    ADDRESS_REFUSED = "address_refused"
    PROTOCOL_REFUSED = "protocol_refused"
    PORT_REFUSED = "port_refused"
    BIND_REFUSED = "bind_refused"
    SOURCE_REFUSED = "source_refused"  # `inbound` does not let that address in
    RECORD_TYPE = "record_type"
    PACKET_DROPPED = "packet_dropped"
    # 4) what was said on the wire
    SNI_MISMATCH = "sni_mismatch"
    HOST_MISMATCH = "host_mismatch"
    PATH_INVALID = "path_invalid"
    METHOD_INVALID = "method_invalid"
    HEADER_REFUSED = "header_refused"
    PROTOCOL_ERROR = "protocol_error"
    HEADER_TIMEOUT = "header_timeout"
    # 5) the other side
    RESOLVE_FAILED = "resolve_failed"
    UPSTREAM_TLS = "upstream_tls"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_ERROR = "upstream_error"
    # 6) Stockade itself
    NO_ORIGIN = "no_origin"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    KERNEL_MAP_FULL = "kernel_map_full"
    QUOTA = "quota"
    POLICY_CHANGED = "policy_changed"
    STARTED = "started"
    ADOPTED = "adopted"  # by another agent, after the one that started it had died
    STOPPED = "stopped"
    RELOADED = "reloaded"
    RELOAD_REFUSED = "reload_refused"
    APPROVED = "approved"
    APPROVAL_DENIED = "approval_denied"
    APPROVAL_CONSUMED = "approval_consumed"
    APPROVAL_EXPIRED = "approval_expired"
    EVENTS_LOST = "events_lost"
    SINK_LOST = "sink_lost"  # records that a sink gave up; they are in the trail
    KEY_REPLACED = "key_replaced"  # the one that signs the trail
    PARTS_REMOVED = "parts_removed"  # the oldest files of the trail, as its settings say
    INTERRUPTED = "interrupted"
    WORKER_LOST = "worker_lost"
    AUTHORITY_RENEWED = "authority_renewed"  # another key signs the certificates that clients are shown
    AUTHORITY_NOT_RENEWED = "authority_not_renewed"  # the one before goes on, as long as it is valid
    AUTHORITY_EXPIRED = "authority_expired"  # and this is when it is not
    ENFORCEMENT_LOST = "enforcement_lost"  # a program was taken off its hook, a pin was removed, the sandbox was moved: it was killed
    # 7) what is in a request
    SCAN_FOUND = "scan_found"  # the rule's `scan` names what was found in it
    SCAN_UNREADABLE = "scan_unreadable"  # nobody could read it, and the rule wants it read
    PRIVACY_FAILURE = "privacy_failure"  # the classifier is not there, has too much to do, or did not answer in time
    PRIVACY_PASS = "privacy_pass"  # nothing was found that a route holds back
    PRIVACY_ROUTE = "privacy_route"  # a route of the policy
    PRIVACY_DEFAULT = "privacy_default"  # a route that holds where the policy has none
    PRIVACY_UNREADABLE = "privacy_unreadable"
    PRIVACY_RESIDENCY = "privacy_residency"  # what may not be processed where the endpoint is
    PRIVACY_CONTEXT = "privacy_context"  # more than the local model takes
    PRIVACY_LOCAL_FAILURE = "privacy_local_failure"  # there is no local model, it does not answer, or does not know the API
    PRIVACY_VAULT_FULL = "privacy_vault_full"
    # 8) the sandbox's own bounds
    DEVICE_REFUSED = "device_refused"
    EXEC_REFUSED = "exec_refused"  # by a mount, Landlock or a mode, before any hook
    FILE_REFUSED = "file_refused"  # the same
    LANDLOCK_REFUSED = "landlock_refused"  # what the machine's audit says of those: which right Landlock missed; none where that is off
    OPENS_COUNTED = "opens_counted"  # files that were opened below a directory the policy asks about
    OPENS_UNKNOWN = "opens_unknown"  # the same, and below which of them cannot be told
    SYSCALL_REFUSED = "syscall_refused"  # by the filter, or for want of a capability
    LIMIT_REACHED = "limit_reached"


@dataclass(frozen=True, slots=True)
class Binary:
    """An executed file, as the kernel saw it; `script` is set when its shebang started it.

    names: every family of policies/binaries.yaml it belongs to, its own base name when none; rules match any of them.
    name: the one name shown to people. sha256: hex, of the script when there is one, else of the file.
    """

    name: str
    names: frozenset[str]
    path: str
    script: str | None = None
    sha256: str = ""
    identity: str = "strong"  # or "weak": exec.writable lets foreign code be mapped into it

    @classmethod
    def named(cls, name: str, path: str = "") -> Binary:
        """A binary known by its family name alone: for `explain`, policy tests and truth tables."""
        return cls(name=name, names=frozenset({name}), path=path or name)


UNKNOWN_BINARY = Binary(name="?", names=frozenset(), path="?")


FORGOTTEN = "?"  # among ancestors: there were others, which nobody remembers any more


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the policy, as far as it is known.

    DNS knows binary and host; connect adds the port; HTTP adds method and canonical path. host is normalised: lower case, IDNA A-labels,
    no trailing dot, an IP literal in its canonical spelling without brackets. ancestors: the paths of the execs that the binary's process
    came from, nearest first. Unknown fields are None and narrow nothing.
    """

    binary: Binary
    host: str
    port: int | None = None
    method: str | None = None
    path: str | None = None
    ancestors: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says to a Request, and at which level it fell.

    effect: PASS (HTTP is inspected), RELAY (L4: passthrough or tcp) or REFUSE. enforced is False when `mode: observe` let a denial pass.
    """

    outcome: Outcome
    effect: Effect
    level: Level
    reason: Reason
    rule: str | None
    generation: int
    enforced: bool = True

    @property
    def allowed(self) -> bool:
        """The policy's own answer."""
        return self.outcome is Outcome.ALLOW

    @property
    def passes(self) -> bool:
        """What happens: allowed, or denied under `mode: observe`."""
        return self.allowed or not self.enforced


@dataclass(frozen=True, slots=True)
class Destination:
    host: str
    port: int | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Http:
    """One request and its answer; sizes in bytes of the bodies as sent on the wire."""

    method: str
    path: str
    status: int | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One governed sandbox as records name it. `policy` is the policy's name, `generation` the one in force."""

    id: str
    name: str
    policy: str
    generation: int
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Of the pod that it is; empty where it is none."""
        return self.labels.get("namespace", "") if "pod_uid" in self.labels else ""


@dataclass(frozen=True, slots=True)
class Record:
    """One decision, before the trail adds time, seq, prev and hash. `detail` holds what only this action has."""

    action: Action
    outcome: Outcome
    effect: Effect
    level: Level
    reason: Reason
    rule: str | None = None
    enforced: bool = True
    binary: Binary | None = None
    exec_id: int | None = None
    pid: int | None = None
    ancestry: tuple[str, ...] = ()
    destination: Destination | None = None
    http: Http | None = None
    generation: int | None = None  # the one this was decided under; the sandbox's own when None
    detail: dict[str, str | int | list[str]] = field(default_factory=dict)
