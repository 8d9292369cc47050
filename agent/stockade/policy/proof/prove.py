"""Proving: whether any request at all can do what a claim says none can. Exhaustive over the model; a counter-example is one that `decide`
itself allows. What cannot be enumerated (what Rego allows) is answered with "could not tell", never with a guess.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from stockade.policy.hosts import HostError, HostPattern, parse_pattern
from stockade.policy.model import Policy
from stockade.policy.paths import PathError, check_glob
from stockade.policy.proof.language import Budget, TooComplexError, example
from stockade.policy.proof.space import Cell, Space, Where, Who, network_of
from stockade.policy.question import ask, dialled
from stockade.types import Decision, Reason, Request, StockadeError

GRAMMAR = "no request [from BINARY] can reach HOST[:PORT] [with METHOD[ or METHOD…]] [on PATHGLOB]"

_CLAIM = re.compile(
    r"no\s+request(?:\s+from\s+(?P<binary>\S+))?\s+can\s+reach\s+(?P<host>\S+)"
    r"(?:\s+with\s+(?P<methods>\S+(?:\s+or\s+\S+)*))?(?:\s+on\s+(?P<path>\S+))?\s*"
)
_BUDGET = 4_000_000  # of all walks for one claim: a minute at the worst
_LOOPBACK = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "0.0.0.0/32", "::/127")))
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Claim:
    """host: `*` for any. methods: empty for any. binary, path: None for any."""

    text: str
    host: HostPattern
    methods: tuple[str, ...] = ()
    binary: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A request that the policy lets pass. method and url as `explain` takes them; relayed: whatever is sent, nobody looks at it."""

    who: Who
    method: str | None
    url: str
    request: Request
    decision: Decision


@dataclass(frozen=True, slots=True)
class Proof:
    """answer: `proved`, `false` or `could not tell`. rules, binaries, places: how many kinds of each were looked at. reason: why not told.

    notes: what the answer does not speak of.
    """

    answer: Literal["proved", "false", "could not tell"]
    rules: int
    binaries: int
    places: int
    counterexample: Counterexample | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


def parse_claim(text: str) -> Claim:
    """Raises StockadeError that says what was expected."""
    match = _CLAIM.fullmatch(text.strip())
    if match is None:
        raise StockadeError(f"{text!r} is no claim", hint=GRAMMAR, code="bad_claim")
    methods = tuple(re.split(r"\s+or\s+", match["methods"])) if match["methods"] else ()
    path = match["path"]
    try:
        host = _as_dialled(parse_pattern(match["host"]))
        if path is not None:
            check_glob(path)
        for method in methods:
            if not _METHOD.fullmatch(method):
                raise ValueError(f"`{method}` is no method; methods are compared as written, in upper case")
    except (HostError, PathError) as error:
        raise StockadeError(f"{text!r} is no claim: {error}", hint=error.accepted, code="bad_claim") from None
    except ValueError as error:
        raise StockadeError(f"{text!r} is no claim: {error}", hint=GRAMMAR, code="bad_claim") from None
    return Claim(text.strip(), host, tuple(dict.fromkeys(methods)), match["binary"], path)


def _as_dialled(pattern: HostPattern) -> HostPattern:
    """A claim speaks of where connections lead. Raises ValueError for a network that holds loopback addresses beside others."""
    if pattern.kind == "name":
        return replace(pattern, value=dialled(pattern.value))
    network = pattern.network
    if network is not None and any(network.version == item.version and network.overlaps(item) for item in _LOOPBACK):
        raise ValueError(f"`{pattern.text}` holds loopback addresses, which are `localhost`: claim that of it too, and of the others")
    return pattern


def prove(claim: Claim, policy: Policy) -> Proof:
    """Whether the claim holds for every request."""
    space = Space((policy,), (claim.host,), (claim.binary,) if claim.binary else ())
    counted: dict[str, int] = {"binaries": 0, "places": 0}
    reason = _open_ended(claim, policy, space)

    def answer(said: Literal["proved", "false", "could not tell"], found: Counterexample | None = None, why: str = "") -> Proof:
        return Proof(said, len(policy.rules), counted["binaries"], counted["places"], found, why, _notes(claim, policy, found))

    try:
        if not policy.enforced:
            observed = _observed(claim, space, policy)
            return answer("false", observed) if observed else answer("proved")
        for request, shown, cell in _allowed(claim, space, policy, counted):
            confirmed = ask(request, policy).decision
            if confirmed.passes:
                url = cell.url(request.path or "/")
                return answer("false", Counterexample(cell.who, shown, url, request, confirmed))
            reason = reason or _unconfirmed(request, cell, confirmed)
    except TooComplexError as error:
        return answer("could not tell", why=str(error))
    return answer("could not tell", why=reason) if reason else answer("proved")


def _allowed(claim: Claim, space: Space, policy: Policy, counted: dict[str, int]) -> Iterator[tuple[Request, str | None, Cell]]:
    """For every kind of asker, place and method that the rules allow against the claim: one request, and the method to be shown."""
    budget = Budget(_BUDGET)
    for who in space.askers():
        if claim.binary is not None and not _is(who, claim.binary):
            continue
        counted["binaries"] += 1
        for cell in space.cells(who, policy, claim.host):
            counted["places"] += 1
            if cell.relayed:
                method = claim.methods[0] if claim.methods else None
                path = example([claim.path or "/**"], budget=budget)
                if path is not None:
                    yield cell.request(method or "GET", path), method, cell
                continue
            for method, (opened, closed) in cell.methods().items():
                if claim.methods and method not in claim.methods:
                    continue
                path = example(opened, closed, within=claim.path, budget=budget)
                if path is not None:
                    yield cell.request(method, path), method, cell


def _open_ended(claim: Claim, policy: Policy, space: Space) -> str:
    """Why the rules alone do not settle a claim: a body of Rego's `allow` that demands nothing against it. Empty when they do."""
    rego = policy.rego
    if rego is None:
        return ""
    names = {name for who in space.askers() if claim.binary is None or _is(who, claim.binary) for name in who.binary.names}
    for scope in rego.scopes:
        asked = scope.binary is None or scope.binary in names
        there = (scope.host is None or claim.host.matches(scope.host)) and (
            None in (scope.port, claim.host.port) or scope.port == claim.host.port
        )
        if asked and there and (scope.method is None or not claim.methods or scope.method in claim.methods):
            return "its Rego may allow such a request, and what Rego allows cannot be enumerated"
    return ""


def _unconfirmed(request: Request, cell: Cell, said: Decision) -> str:
    """The rules allow a request, and something else refuses it: others like it may pass, or none."""
    asked = f"{cell.who} {request.method} {cell.url(request.path or '/')}"
    if said.reason in (Reason.REGO_DENY, Reason.REGO_ERROR):
        return f"the rules allow {asked}, and Rego denies it; what else it denies cannot be enumerated"
    return f"the rules allow {asked}, though not as every server may read it"


def _is(who: Who, name: str) -> bool:
    return name in who.binary.names or who.binary.path == name


def _observed(claim: Claim, space: Space, policy: Policy) -> Counterexample | None:
    """Under `mode: observe` everything passes: any request will do that there can be."""
    path = example([claim.path or "/**"])
    if path is None:
        return None
    who = next((who for who in space.askers() if claim.binary is None or _is(who, claim.binary)), None)
    if who is None:
        (who, *_) = Space((policy,), (), (claim.binary or "curl",)).askers()
    where = next(space.hosts(claim.host), None) if claim.host.kind != "any" else Where("example.com", "*")
    if where is None:
        raise TooComplexError(f"no host is known that `{claim.host.text}` covers")
    cell = space.cell(who, where, claim.host.port or 443, policy)
    request = cell.request(claim.methods[0] if claim.methods else "GET", path)
    return Counterexample(who, request.method, cell.url(path), request, ask(request, policy).decision)


def _notes(claim: Claim, policy: Policy, found: Counterexample | None) -> tuple[str, ...]:
    notes = []
    if network_of(claim.host) is not None:
        notes.append("names are taken as names: which addresses they resolve to is no part of a policy")
    if found is not None and not policy.may_exec(found.who.binary).allowed:
        notes.append(f"exec does not let {found.who.binary.name} run; the rules alone would let it ask")
    if not policy.enforced:
        notes.append("mode is observe: whatever is asked passes")
    return tuple(notes)
