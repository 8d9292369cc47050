"""What becomes of one request head: a ladder without I/O, from what is malformed to what the policy says.

Everything the client said about where it goes (SNI, :authority, absolute form, Host) must name what it dialled, because the dialled name is
what the kernel tied to the binary. Refusals above the last rung hold under `mode: observe` too: they protect the decision itself.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from stockade.proxy.canonical import canonical_path, demand_query, readings
from stockade.proxy.spine import Caller
from stockade.types import Action, Decision, Level, Reason, Request

Decide = Callable[[Request, Any], Decision]

_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")  # ASCII: IDN comes as A-labels
_SEPARATORS = re.compile("[^a-z0-9]")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# Headers by which a server may be told to act on another method, path or host than the request line says.
REFUSED_HEADERS = {
    "x-http-method-override": Level.METHOD,
    "x-method-override": Level.METHOD,
    "x-http-method": Level.METHOD,
    "x-original-url": Level.PATH,
    "x-original-uri": Level.PATH,
    "x-rewrite-url": Level.PATH,
    "x-rewrite-uri": Level.PATH,
    "x-forwarded-host": Level.DESTINATION,
    "x-forwarded-server": Level.DESTINATION,
    "x-host": Level.DESTINATION,
    "x-original-host": Level.DESTINATION,
    "x-http-host-override": Level.DESTINATION,
    "forwarded": Level.DESTINATION,  # RFC 7239: `host=`. Proxies write it, clients have no business with it
}
# What says to whom a request goes, and where it ends: a server behind a gateway must not read it from another spelling (CGI folds
# Transfer_Encoding), nor a gateway take it off, as it does with every header that Connection names (RFC 9110, 7.6.1).
_FRAMING = frozenset({"host", "content-length", "transfer-encoding"})
# The same in the query. The first two are read by form frameworks, for what is no GET; those with $ by Google's servers, to spare browsers
# a CORS preflight.
_METHOD_PARAMETERS = frozenset({"_method", "x-http-method-override"})
_GOOGLE_PARAMETERS = frozenset({"$httpmethod", "$httpheaders"})


@dataclass(frozen=True, slots=True)
class Head:
    """A request head as it came. path: raw, with the query. authority: of the absolute form or :authority. headers: names in lower case.

    malformed: what the parser had against it.
    """

    method: str
    path: str
    authority: str | None
    headers: tuple[tuple[str, str], ...]
    malformed: str | None = None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may go on. target: canonical path and the query, as it is sent. path: what was matched and is recorded. rules: all that say so,
    for every reading of the path and for each program that speaks.
    """

    action: Action
    decision: Decision
    path: str
    target: str
    drop_upgrade: bool = False  # an offer of h2c is taken out: the answer stays HTTP/1.1, and no frame passes unseen
    rules: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Refusal:
    """It may not, and why. decision is set when the policy said so; hint is what the agent's model can do about it.

    approval: the id under which a person may let it pass. record: the name of its record in the trail.
    """

    level: Level
    reason: Reason
    error: str
    path: str
    hint: str = ""
    decision: Decision | None = None
    action: Action = Action.HTTP
    approval: str | None = None
    record: str | None = None

    @property
    def rule(self) -> str | None:
        return self.decision.rule if self.decision is not None else None


def same_host(said: str, host: str) -> bool:
    """Whether a name in an SNI, Host or authority is the host that was dialled; literals compare as addresses.

    A Service of a cluster is called as its clients call it: a search list makes `web.shop.svc.DOMAIN` of web, web.shop or web.shop.svc.
    """
    said, host = _normal(said), _normal(host)
    return said == host or (host == "localhost" and said in LOOPBACK) or said in _short(host)


def _short(host: str) -> tuple[str, ...]:
    name, namespace, kind, domain = (*host.split(".", 3), "", "", "", "")[:4]
    return (name, f"{name}.{namespace}", f"{name}.{namespace}.svc") if kind == "svc" and domain else ()


def _normal(name: str) -> str:
    bare = name.strip("[]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return name.lower().removesuffix(".")


def names_dialled(authority: str, caller: Caller) -> bool:
    """Whether `host[:port]` is the dialled host and, when it says one, the dialled port."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None or caller.host is None:
        return False
    return same_host(match[1], caller.host) and (match[2] is None or int(match[2]) == caller.port)


def _overriding(query: str, method: str) -> str | None:
    """The parameter of a query by which a server may take another method than the request's: read as servers read names, so decoded, PHP's
    `.method` and `_method[]` included.
    """
    if "method" not in query.lower() and "%" not in query and "$" not in query:
        return None
    refused = _GOOGLE_PARAMETERS if method in ("GET", "HEAD") else _GOOGLE_PARAMETERS | _METHOD_PARAMETERS
    for piece in re.split("[&;]", query):
        name = unquote_plus(piece.partition("=")[0]).partition("[")[0].strip().lower()
        if name in refused or name.replace(".", "_").replace(" ", "_") in refused:
            return name[:64]
    return None


def judge(head: Head, caller: Caller, policy: Any, decide: Decide) -> Admitted | Refusal:
    """The whole decision on one request."""
    raw, _, query = head.path.partition("?")
    shown = raw[:256]

    def refuse(level: Level, reason: Reason, error: str, hint: str = "") -> Refusal:
        return Refusal(level, reason, error, shown, hint)

    # 1) a method that is one, spelled as servers spell it
    if head.method == "CONNECT":
        hint = "connect directly: no proxy is needed, unset HTTPS_PROXY"
        return refuse(Level.METHOD, Reason.METHOD_INVALID, "CONNECT is not served here", hint)
    if not _METHOD.fullmatch(head.method):
        return refuse(Level.METHOD, Reason.METHOD_INVALID, "the method is not an upper-case token")
    # 2) a head that every parser reads alike
    if head.malformed is not None:
        return refuse(Level.DESTINATION, Reason.PROTOCOL_ERROR, head.malformed)
    # 3) one host, and the one that was dialled
    hosts, dialled = head.all("host"), f"the connection is to {caller.host}:{caller.port}"
    if head.authority is not None:
        if not names_dialled(head.authority, caller):
            return refuse(Level.DESTINATION, Reason.HOST_MISMATCH, f"the request is for {head.authority[:256]}, {dialled}")
    elif not hosts:
        return refuse(Level.DESTINATION, Reason.HOST_MISMATCH, "no Host header")
    if len(hosts) > 1:
        return refuse(Level.DESTINATION, Reason.HOST_MISMATCH, "more than one Host header")
    if hosts and not names_dialled(hosts[0], caller):
        return refuse(Level.DESTINATION, Reason.HOST_MISMATCH, f"Host is {hosts[0][:256]}, {dialled}")
    # 4) nothing beside the request line that changes it
    for name, value in head.headers:
        spelt = _SEPARATORS.sub("-", name)  # CGI and WSGI read all these spellings as one
        if (level := REFUSED_HEADERS.get(spelt)) is not None:
            return refuse(level, Reason.HEADER_REFUSED, f"header {name} is refused", "say it in the request line")
        if spelt in _FRAMING and spelt != name:
            return refuse(Level.DESTINATION, Reason.HEADER_REFUSED, f"header {name} is refused", f"{spelt} is its name")
        if name == "connection" and not _FRAMING.isdisjoint(option.strip().lower() for option in value.split(",")):
            return refuse(Level.DESTINATION, Reason.HEADER_REFUSED, "Connection names a header that every server needs")
    if (parameter := _overriding(query, head.method)) is not None:
        return refuse(Level.METHOD, Reason.HEADER_REFUSED, f"{parameter} in the query is refused", "use the method itself")
    # 5) no other protocol than WebSocket
    action, drop_upgrade = Action.HTTP, False
    upgrades = [token.strip().lower() for value in head.all("upgrade") for token in value.split(",")]
    if upgrades == ["websocket"]:
        if head.method != "GET":  # RFC 6455, 4.1
            return refuse(Level.METHOD, Reason.METHOD_INVALID, "a WebSocket is opened with GET")
        action = Action.WEBSOCKET
    elif upgrades == ["h2c"]:
        drop_upgrade = True
    elif upgrades:
        return refuse(Level.DESTINATION, Reason.HEADER_REFUSED, f"upgrade to {', '.join(upgrades)[:256]} is refused")
    # 6) one spelling of the path
    try:
        path = canonical_path(raw or "/")
        demand_query(query)
    except ValueError as problem:
        return refuse(Level.PATH, Reason.PATH_INVALID, f"path refused: {problem}")
    # 7) the policy, on every reading of the path
    assert caller.host is not None
    spoken: Decision | None = None
    rules: set[str] = set()
    for reading in readings(path):
        decision = decide(Request(caller.binary, caller.host, caller.port, head.method, reading, caller.ancestry), policy)
        if not decision.passes:
            return Refusal(decision.level, decision.reason, "the policy denies this request", path, decision=decision, action=action)
        rules |= set() if decision.rule is None else {decision.rule}
        if spoken is None or (spoken.allowed and not decision.allowed):
            spoken = decision
    assert spoken is not None
    target = f"{path}?{query}" if "?" in head.path else path
    return Admitted(action, spoken, path, target, drop_upgrade, frozenset(rules))
