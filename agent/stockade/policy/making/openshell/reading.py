"""OpenShell's policies and NemoClaw's presets, read: their document as typed values, and what of it cannot be held here.

Owns their format, as of August 2026. What they would not load either (a wrong type, a missing version) is an error; what limits a request
by something that no rule of ours looks at (query, GraphQL, MCP, JSON-RPC) makes an allow a loss and a deny wider.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stockade.policy.format.document import NOWHERE, Findings, Listing, Mapping, Node, Place, Scalar, compose, kind_of, short
from stockade.policy.format.problems import Problem

STANDARD = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
ACCESS = {"read-only": STANDARD[:3], "read-write": STANDARD[:6], "full": STANDARD}

Kind = Literal["left_out", "narrowed"]

_TOP = ("version", "preset", "filesystem_policy", "landlock", "process", "network_policies", "network_middlewares")
_ENTRY = ("name", "endpoints", "binaries")
_PLAIN = ("host", "port", "ports", "path", "protocol", "tls", "enforcement", "access", "rules", "deny_rules", "allowed_ips")
_CREDENTIALS = (
    *("websocket_credential_rewrite", "request_body_credential_rewrite", "allow_uninspected_credentials", "credential_signing"),
    *("signing_service", "signing_region", "credential_binding", "provider_credentialed", "token_grant_owner"),
)
_BODIES = ("persisted_queries", "graphql_persisted_queries", "graphql_max_body_bytes", "mcp", "json_rpc")
_ENDPOINT = (*_PLAIN, "allow_encoded_slash", "advisor_proposed", *_CREDENTIALS, *_BODIES)
_PROTOCOLS = ("", "tcp", "rest", "websocket", "graphql", "mcp", "json-rpc", "sql")
_METHOD = re.compile(r"[A-Z][A-Z0-9-]*")
TEXT = "WEBSOCKET_TEXT"  # their name for a message that a client sends over an open WebSocket


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that is not carried over as it was, where it stands, and why."""

    kind: Kind
    place: Place
    code: str
    message: str

    def __str__(self) -> str:
        warning = Problem(self.place.path, self.place.line, self.place.column, self.code, f"{self.kind.replace('_', ' ')}: {self.message}")
        return str(warning)


@dataclass(frozen=True, slots=True)
class Access:
    """Methods and one path glob of theirs, allowed or denied. methods: `*` alone for any. place: where it is written."""

    methods: tuple[str, ...]
    path: str
    place: Place


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to, and what. allows is empty for `inspected=False`: everything passes then.

    opaque: why what passes here cannot be told from method and path; it then only takes away from others. narrowings: what is held more
    tightly here, for whoever carries it over.
    """

    host: str
    ports: tuple[int, ...]
    scope: str
    inspected: bool
    tcp: bool
    skip: bool
    allows: tuple[Access, ...]
    denies: tuple[Access, ...]
    addresses: tuple[tuple[str, Place], ...]
    encoded_slash: bool
    opaque: str
    narrowings: tuple[Loss, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """One of `network_policies`. binaries: None when the entry names none."""

    key: str
    binaries: tuple[tuple[str, Place], ...] | None
    endpoints: tuple[Endpoint, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Middleware:
    """Hosts whose requests something else may change or refuse; empty means every host."""

    key: str
    hosts: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Foreign:
    """A whole document of theirs. read, write: paths, each with its place. files_place: of the section that has them."""

    name: str
    entries: tuple[Entry, ...]
    middlewares: tuple[Middleware, ...]
    read: tuple[tuple[str, Place], ...]
    write: tuple[tuple[str, Place], ...]
    files_place: Place | None
    include_workdir: bool
    best_effort: bool
    user: tuple[str, Place] | None
    group: tuple[str, Place] | None
    losses: tuple[Loss, ...]


def read(data: bytes, path: str, findings: Findings) -> Foreign | None:
    """The document in data; None when it is none of theirs, and findings says why. path: as shown in places."""
    root = compose(data, path, findings)
    if root is None or findings.failed:
        return None
    found = _Reader(findings).document(root)
    return None if findings.failed else found


class _Reader:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.losses: list[Loss] = []

    def document(self, root: Node) -> Foreign | None:
        top = self._keys(root, "an OpenShell policy")
        if not isinstance(root, Mapping) or self.findings.failed:
            return None
        for key in top:
            if key not in _TOP:
                self._lose("left_out", _at(root, key), "unknown_key", f"`{key}` is not known to this import")
        preset = self._keys(top["preset"], "preset") if "preset" in top else {}
        version = top.get("version")
        if version is None and not preset:
            self._error(root.place, "version", "neither an OpenShell policy nor a NemoClaw preset", "version: 1, or preset: {name: …}")
        elif version is not None and not (isinstance(version, Scalar) and version.text == "1"):
            self._error(version.place, "version", "this version of their format is not known", "1")
        files = self._keys(top["filesystem_policy"], "filesystem_policy") if "filesystem_policy" in top else {}
        process = self._keys(top["process"], "process") if "process" in top else {}
        landlock = self._keys(top["landlock"], "landlock") if "landlock" in top else {}
        self._unknown(top.get("filesystem_policy"), ("include_workdir", "read_only", "read_write"), "filesystem_policy")
        self._unknown(top.get("process"), ("run_as_user", "run_as_group"), "process")
        self._unknown(top.get("landlock"), ("compatibility",), "landlock")
        policies = top.get("network_policies")
        return Foreign(
            name=self._text(preset, "name") or "",
            entries=tuple(self._entry(key, node, _at(policies, key)) for key, node in self._keys(policies, "network_policies").items()),
            middlewares=tuple(self._middleware(key, node) for key, node in self._keys(top.get("network_middlewares"), "").items()),
            read=self._texts(files.get("read_only"), "read_only"),
            write=self._texts(files.get("read_write"), "read_write"),
            files_place=top["filesystem_policy"].place if "filesystem_policy" in top else None,
            include_workdir=self._flag(files, "include_workdir"),
            best_effort=self._text(landlock, "compatibility", ("best_effort", "hard_requirement")) == "best_effort",
            user=self._word(process.get("run_as_user")),
            group=self._word(process.get("run_as_group")),
            losses=tuple(self.losses),
        )

    def _entry(self, key: str, node: Node, place: Place) -> Entry:
        keys = self._keys(node, f"network_policies.{key}")
        unknown = [name for name in keys if name not in _ENTRY]
        for name in unknown:
            self._lose("left_out", _at(node, name), "unknown_key", f"`{key}` has `{name}`, which is not known: its endpoints")
        binaries = keys.get("binaries")
        if binaries is not None and not isinstance(binaries, Listing):
            binaries = Listing((binaries,), binaries.place)  # their 0.1 takes one without a list
        listed = tuple(self._binary(item) for item in binaries.items) if binaries is not None and binaries.items else None
        opaque = f"its entry has `{unknown[0]}`" if unknown else ""
        endpoints = keys.get("endpoints")
        if endpoints is not None and not isinstance(endpoints, Listing):
            self._wrong(endpoints, "endpoints", "a list")
            endpoints = None
        found = tuple(self._endpoint(item, opaque) for item in (endpoints.items if endpoints else ()))
        return Entry(key, listed, found, place)

    def _binary(self, node: Node) -> tuple[str, Place]:
        if isinstance(node, Scalar):
            return node.text, node.place
        keys = self._keys(node, "a binary")
        # A condition that is not known narrows what they match: the name alone would be wider.
        text = self._text(keys, "path") or ""
        known = {"path", "advisor_proposed"}
        unknown = [name for name in keys if name not in known]
        if unknown:
            self._lose("left_out", _at(node, unknown[0]), "unknown_key", f"the binary {text} has `{unknown[0]}`")
            return "", node.place
        return text, node.place

    def _endpoint(self, node: Node, opaque: str) -> Endpoint:
        keys = self._keys(node, "an endpoint")
        unknown = [name for name in keys if name not in _ENDPOINT]
        protocol = self._text(keys, "protocol", _PROTOCOLS) or ""
        access = self._text(keys, "access", tuple(ACCESS))
        self._text(keys, "enforcement", ("audit", "enforce"))
        tls = self._text(keys, "tls", ("skip", "terminate", "passthrough"))
        host = self._text(keys, "host") or ""
        place = keys["host"].place if "host" in keys else node.place
        if unknown:
            opaque = f"`{unknown[0]}` is not known to this import"
            place = _at(node, unknown[0])
        limited = protocol == "" and ("rules" in keys or access in ("read-only", "read-write"))
        inspected = limited or protocol not in ("", "tcp", "sql")
        narrowings = []
        if limited:
            message = f"{host}: without `protocol` nobody looks inside there; here access and rules hold"
            narrowings.append(Loss("narrowed", place, "held", message))
        if inspected and self._text(keys, "enforcement") != "enforce":
            message = f"{host}: `enforcement: audit`, their default, lets everything pass; here it holds"
            narrowings.append(Loss("narrowed", place, "enforced", message))
        if inspected and tls == "skip":
            message = f"{host}: `tls: skip` hides requests there; here they are looked into"
            narrowings.append(Loss("narrowed", keys["tls"].place, "inspected", message))
        if access == "full" and protocol == "rest":
            message = f"{host}: `access: full` is any method there; here it is {', '.join(STANDARD)}"
            narrowings.append(Loss("narrowed", keys["access"].place, "methods_listed", message))
        for name in _CREDENTIALS:
            if name in keys and not (isinstance(keys[name], Scalar) and keys[name].text in ("false", "")):  # type: ignore[union-attr]
                self._lose("left_out", _at(node, name), "credentials", f"{host}: `{name}`; no credential is put into a request here")
        opaque = opaque or _opaque(protocol, keys, access)
        if opaque:
            self._lose("left_out", place, "endpoint", f"{host or 'an endpoint'}: {opaque}")
        return Endpoint(
            host=host,
            ports=self._ports(keys),
            scope=self._text(keys, "path") or "",
            inspected=inspected,
            tcp=protocol == "tcp",
            skip=tls == "skip",
            allows=() if opaque else self._allows(keys, protocol, access),
            denies=() if opaque else self._denies(keys, protocol),
            addresses=self._texts(keys.get("allowed_ips"), "allowed_ips"),
            encoded_slash=self._flag(keys, "allow_encoded_slash"),
            opaque=opaque,
            narrowings=tuple(narrowings),
            place=place,
        )

    def _allows(self, keys: dict[str, Node], protocol: str, access: str | None) -> tuple[Access, ...]:
        if protocol not in ("", "rest", "websocket"):
            return ()
        if access is not None:
            methods = ACCESS[access] if protocol != "websocket" else ("GET",)
            place = keys["access"].place
            return (Access(methods, "**", place),)
        rules = [self._allow(item, protocol) for item in self._items(keys.get("rules"), "rules")]
        found = [rule for rule in rules if rule is not None]
        return tuple(found) if protocol != "websocket" else tuple(self._upgrades(found))

    def _allow(self, node: Node, protocol: str) -> Access | None:
        """None when it is left out: what limits it cannot be held here, and without the limit it would be wider."""
        keys = self._keys(node, "a rule")
        inner = self._keys(keys.get("allow"), "allow")
        if condition := _condition(inner, keys, "allow"):
            self._lose("left_out", node.place, "condition", f"the allow depends on `{condition}`, which no rule here looks at")
            return None
        method, path = self._text(inner, "method"), self._text(inner, "path")
        if method is None or path is None:
            self._lose("left_out", node.place, "incomplete", "an allow without method and path matches nothing there either")
            return None
        if method == "*" and protocol != "websocket":
            self._lose("narrowed", node.place, "methods_listed", f"method `*` is any method there; here it is {', '.join(STANDARD)}")
            return Access(STANDARD, path, node.place)
        upper = method.upper()
        if method != "*" and upper != TEXT and (upper == "CONNECT" or not _METHOD.fullmatch(upper)):
            self._lose("left_out", node.place, "method", f"`{method}` is no method of a request")
            return None
        return Access(("GET", "HEAD") if upper == "GET" and protocol != "websocket" else (upper,), path, node.place)

    def _upgrades(self, rules: list[Access]) -> Iterable[Access]:
        """Paths on which both the upgrade and the client's messages are allowed: here nobody reads the messages."""
        talk = {rule.path for rule in rules if rule.methods[0] in (TEXT, "*")}
        for rule in rules:
            if rule.methods[0] not in ("GET", "*"):
                continue
            if rule.path in talk:
                yield Access(("GET",), rule.path, rule.place)
            else:
                self._lose("left_out", rule.place, "websocket", f"an upgrade at {rule.path} without client messages: here they would pass")

    def _denies(self, keys: dict[str, Node], protocol: str) -> tuple[Access, ...]:
        """A condition that cannot be held is dropped, which makes the denial wider."""
        found = []
        for node in self._items(keys.get("deny_rules"), "deny_rules"):
            inner = self._keys(node, "a deny rule")
            method, path = self._text(inner, "method") or "*", self._text(inner, "path") or "**"
            if condition := _condition(inner, {}, ""):
                message = f"the denial depends on `{condition}`; here {method} is denied at {path} whatever that is"
                self._lose("narrowed", node.place, "condition", message)
            upper = method.upper()
            if upper == TEXT or protocol not in ("", "rest"):
                upper = "*"
            methods = ("GET", "HEAD") if upper == "GET" else (upper,)
            found.append(Access(methods, path, node.place))
        return tuple(found)

    def _ports(self, keys: dict[str, Node]) -> tuple[int, ...]:
        nodes = [*self._items(keys.get("ports"), "ports"), *([keys["port"]] if "port" in keys else [])]
        found = []
        for node in nodes:
            if isinstance(node, Scalar) and node.kind == "number" and re.fullmatch("[0-9]{1,5}", node.text) and 0 < int(node.text) <= 65535:
                found.append(int(node.text))
            else:
                self._wrong(node, "a port", "1 to 65535")
        return tuple(dict.fromkeys(found))

    def _middleware(self, key: str, node: Node) -> Middleware:
        keys = self._keys(node, f"network_middlewares.{key}")
        endpoints = self._keys(keys.get("endpoints"), "endpoints")
        return Middleware(key, tuple(text for text, _ in self._texts(endpoints.get("include"), "include")), node.place)

    # What the parts are made of.

    def _keys(self, node: Node | None, owner: str) -> dict[str, Node]:
        if node is None or (isinstance(node, Scalar) and node.kind == "nothing"):
            return {}
        if not isinstance(node, Mapping):
            self._wrong(node, owner, "a mapping")
            return {}
        return {key.text: value for key, value in node}

    def _items(self, node: Node | None, owner: str) -> tuple[Node, ...]:
        if node is None or (isinstance(node, Scalar) and node.kind == "nothing"):
            return ()
        if not isinstance(node, Listing):
            self._wrong(node, owner, "a list")
            return ()
        return node.items

    def _texts(self, node: Node | None, owner: str) -> tuple[tuple[str, Place], ...]:
        found = []
        for item in self._items(node, owner):
            if isinstance(item, Scalar) and item.kind in ("text", "other", "number"):
                found.append((item.text, item.place))
            else:
                self._wrong(item, f"an entry of {owner}", "text")
        return tuple(found)

    def _text(self, keys: dict[str, Node], name: str, values: tuple[str, ...] = ()) -> str | None:
        node = keys.get(name)
        if node is None or (isinstance(node, Scalar) and node.kind == "nothing"):
            return None
        if not isinstance(node, Scalar) or node.kind != "text":
            self._wrong(node, name, ", ".join(filter(None, values)) or "text")
            return None
        if values and node.text not in values:
            self._error(node.place, "bad_value", f"{name} cannot be `{node.text}`", ", ".join(filter(None, values)))
            return None
        return node.text

    def _word(self, node: Node | None) -> tuple[str, Place] | None:
        """A user or group: a name, or a number with or without quotes."""
        if isinstance(node, Scalar) and node.kind in ("text", "number"):
            return (node.text, node.place) if node.text else None
        if node is not None:
            self._wrong(node, "a user or group", "a name or a number")
        return None

    def _flag(self, keys: dict[str, Node], name: str) -> bool:
        node = keys.get(name)
        if node is None:
            return False
        if not isinstance(node, Scalar) or node.kind != "true or false":
            self._wrong(node, name, "true, false")
            return False
        return node.text.lower() in ("true", "yes", "on")

    def _unknown(self, node: Node | None, known: tuple[str, ...], owner: str) -> None:
        for name in self._keys(node, owner):
            if name not in known:
                self._lose("left_out", _at(node, name), "unknown_key", f"`{owner}.{name}` is not known to this import")

    def _lose(self, kind: Kind, place: Place, code: str, message: str) -> None:
        self.losses.append(Loss(kind, place, code, message))

    def _wrong(self, node: Node, owner: str, accepted: str) -> None:
        what = f"`{short(node.text)}` ({node.kind})" if isinstance(node, Scalar) and node.text else kind_of(node)
        self._error(node.place, "wrong_type", f"{owner} cannot be {what}", accepted)

    def _error(self, place: Place, code: str, message: str, accepted: str) -> None:
        self.findings.add(place, code, message, accepted=accepted)


def _at(node: Node | None, name: str) -> Place:
    """Where a key of a mapping is written."""
    return next((key.place for key, _ in node if key.text == name), node.place) if isinstance(node, Mapping) else NOWHERE


def _condition(inner: dict[str, Node], outer: dict[str, Node], own: str) -> str:
    """The first key that limits a rule by something else than method and path."""
    return next((name for name in (*outer, *inner) if name not in ("method", "path", own)), "")


def _opaque(protocol: str, keys: dict[str, Node], access: str | None) -> str:
    """Why what an endpoint lets pass cannot be told from method and path."""
    if access is not None and "rules" in keys:
        return "`access` and `rules` exclude each other there"
    match protocol:
        case "graphql" | "mcp" | "json-rpc":
            return f"`protocol: {protocol}` decides by what a request's body says"
        case "sql":
            return "`protocol: sql` is held by nobody"
        case "websocket" if access == "read-only":
            return "a WebSocket that the client may open and not speak on"
        case "websocket" if any(_speaks_graphql(keys)):
            return "GraphQL over a WebSocket decides by what the messages say"
    return ""


def _speaks_graphql(keys: dict[str, Node]) -> Iterable[bool]:
    for name in ("rules", "deny_rules"):
        node = keys.get(name)
        for rule in node.items if isinstance(node, Listing) else ():
            for key, value in rule if isinstance(rule, Mapping) else ():
                inner = value if isinstance(value, Mapping) else ()
                yield any(part.text.startswith(("operation_", "fields")) for part in (key, *(part for part, _ in inner)))
