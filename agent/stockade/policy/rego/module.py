"""Modules: the Rego of a policy as one value, and what can be known of it without evaluating it.

A name is asked for, and a connection made, before there is a method or a path. Rego cannot be asked then; but an `allow` whose body says
`input.binary == "git"` holds for no other binary. Such conditions of each body make a Scope, and what fits no scope is refused at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stockade.policy.hosts import LOCALHOST, as_address

Node = dict[str, Any]

PACKAGE = "stockade"
WEB_PORTS = (443, 80)  # where a body that states no port is looked for, beside every number that the text holds
RULE = "rego"  # what records and `explain` name instead of a rule

# A decision must depend on nothing but the request and the policy, and reveal the request to nobody.
REFUSED_BUILTINS = frozenset({"http.send", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "uuid.rfc4122", "trace", "print"})


@dataclass(frozen=True, slots=True)
class Module:
    """One file. name: as problems show it. text: with its package line. v1: the version of the language that it is written in."""

    name: str
    text: str
    v1: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What one body of `allow` demands; None demands nothing."""

    binary: str | None = None
    host: str | None = None
    port: int | None = None
    method: str | None = None

    def fits(self, names: frozenset[str], host: str, port: int | None) -> bool:
        """An unknown port narrows nothing."""
        return (
            (self.binary is None or self.binary in names)
            and (self.host is None or self.host == host)
            and (self.port is None or port is None or self.port == port)
        )


@dataclass(frozen=True, slots=True)
class Rego:
    """numbers: those in the text that could be ports. denies: whether some rule `deny` exists. key: stands for all of the text."""

    modules: tuple[Module, ...]
    scopes: tuple[Scope, ...] = ()
    numbers: tuple[int, ...] = ()
    denies: bool = False
    key: str = ""

    def may_allow(self, names: frozenset[str], host: str, port: int | None) -> bool:
        """An address, and the host's own loopback, only where a body states it: what a rule opens there is for that rule's binaries."""
        if host == LOCALHOST or as_address(host) is not None:
            return self.names_exactly(host, port, names)
        return any(scope.fits(names, host, port) for scope in self.scopes)

    def binaries(self) -> frozenset[str] | None:
        """The binaries that some body names; None when one holds for any."""
        named = [scope.binary for scope in self.scopes]
        return None if None in named else frozenset(name for name in named if name)

    def ports_for(self, host: str) -> frozenset[int]:
        """Every port of a host that could be allowed."""
        fitting = [scope for scope in self.scopes if scope.host is None or scope.host == host]
        stated = {scope.port for scope in fitting if scope.port is not None}
        return frozenset(stated | ({*WEB_PORTS, *self.numbers} if any(scope.port is None for scope in fitting) else set()))

    def names_exactly(self, host: str, port: int | None, names: frozenset[str] | None) -> bool:
        """Whether some body states this very host, for one of the binaries; None is any binary."""
        stating = [scope for scope in self.scopes if scope.host == host]
        return any(scope.fits(names if names is not None else frozenset({scope.binary or ""}), host, port) for scope in stating)

    def hosts(self) -> frozenset[str]:
        """The hosts that bodies name exactly."""
        return frozenset(scope.host for scope in self.scopes if scope.host is not None)


def compose(modules: list[tuple[str, str, bool]], asts: list[Node]) -> Rego:
    """The value of (name, text, v1) with the syntax tree that the engine made of each."""
    rules = [rule for ast in asts for rule in ast["rules"]]
    texts = tuple(Module(*module) for module in modules)
    key = hashlib.sha256(repr(texts).encode()).hexdigest()
    scopes = dict.fromkeys(scope for rule in rules for scope in _scopes(rule))
    numbers = {int(node["value"]) for ast in asts for _, node in nodes(ast, "Number") if _is_port(node["value"])}
    return Rego(texts, tuple(scopes), tuple(sorted(numbers)), any(_name(rule) == "deny" for rule in rules), key)


def nodes(tree: Any, kind: str) -> Iterator[tuple[Node, Node]]:
    """Every (span, node) of a kind in a syntax tree."""
    if isinstance(tree, dict):
        found = tree.get(kind)
        if isinstance(found, dict) and "span" in found:
            yield found["span"], found
        for below in tree.values():
            yield from nodes(below, kind)
    elif isinstance(tree, list):
        for below in tree:
            yield from nodes(below, kind)


def dotted(expression: Node) -> str:
    """`net.cidr_contains` for the reference that is called; empty for what is no plain name."""
    if "Var" in expression:
        return str(expression["Var"]["value"])
    if "RefDot" in expression:
        before = dotted(expression["RefDot"]["refr"])
        return f"{before}.{expression['RefDot']['field'][1]}" if before else ""
    return ""


def called(ast: Node) -> frozenset[str]:
    """The functions that a module calls and does not define or import."""
    own = {dotted(head["refr"]) for _, head in nodes(ast, "Func")}
    imported = {dotted(each["refr"]).rpartition(".")[2] for each in ast["imports"]} | {"data", "input"}
    names = {dotted(call["fcn"]) for _, call in nodes(ast, "Call")} - own
    aliased = any("as" in each for each in ast["imports"])  # the tree does not hold the name that an import is given
    return frozenset(name for name in names if name and not aliased and name.partition(".")[0] not in imported)


def package(ast: Node) -> str:
    return dotted(ast["package"]["refr"])


def _head(rule: Node) -> Node:
    """The reference that a rule defines, whatever its form."""
    if "Default" in rule:
        default: Node = rule["Default"]["refr"]
        return default
    head: Node = next(iter(rule["Spec"]["head"].values()))["refr"]
    return head


def _name(rule: Node) -> str:
    """`deny` for deny, deny.x, deny["x"] and deny[x]."""
    head = _head(rule)
    while "Var" not in head:
        head = next(iter(head.values()))["refr"]
    return dotted(head)


def _scopes(rule: Node) -> Iterator[Scope]:
    """A scope for each body by which a rule could make `allow` true. What is not understood demands nothing."""
    if _name(rule) != "allow":
        return
    if "Default" in rule:
        if rule["Default"]["value"].get("Bool", {}).get("value") is not False:
            yield Scope()
        return
    bodies = rule["Spec"].get("bodies") or []
    if not bodies:
        yield Scope()
    for body in bodies:
        yield Scope(**_demanded(body["query"]["stmts"]))


def _demanded(statements: list[Node]) -> dict[str, Any]:
    """What the equalities with a literal, of those that must all hold, demand of the input."""
    found: dict[str, Any] = {}
    for statement in statements:
        expression = statement["literal"].get("Expr", {}).get("expr", {})
        equality = expression.get("BoolExpr") or expression.get("AssignExpr") or {}
        if statement.get("with_mods") or equality.get("op") != "Eq":
            continue
        for side, other in ((equality["lhs"], equality["rhs"]), (equality["rhs"], equality["lhs"])):
            field = _input_field(side)
            if field in ("binary", "host", "method") and "String" in other:
                found[field] = other["String"]["value"]
            elif field == "port" and "Number" in other and _is_port(other["Number"]["value"]):
                found[field] = int(other["Number"]["value"])
    return found


def _input_field(expression: Node) -> str | None:
    """`host` for input.host and input["host"]."""
    dot, bracket = expression.get("RefDot"), expression.get("RefBrack")
    if dot is not None and dotted(dot["refr"]) == "input":
        return str(dot["field"][1])
    if bracket is not None and dotted(bracket["refr"]) == "input" and "String" in bracket["index"]:
        return str(bracket["index"]["String"]["value"])
    return None


def _is_port(value: Any) -> bool:
    return isinstance(value, int | float) and value == int(value) and 1 <= value <= 65535
