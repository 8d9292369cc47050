"""Conflicts: rules, or destinations of rules, that allow nothing because others veto all of it, or nothing that is not allowed already.

Sound: a warning is given only where no request at all disproves it. Cheap: one request that passes settles a rule, and is found at once for
nearly all of them; only what looks dead is gone through whole.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from stockade.policy.decide import decide
from stockade.policy.families import load_families, started_by
from stockade.policy.format.document import Findings, Place
from stockade.policy.format.origins import Origins
from stockade.policy.hosts import HostPattern, as_address
from stockade.policy.model import Policy, Rule
from stockade.policy.proof.language import Budget, TooComplexError, allowing, denying, example, find
from stockade.policy.proof.space import Cell, Space, Who
from stockade.policy.ruling import rule_on
from stockade.types import Binary, Level, Reason, Request

EXAMINED = 100  # rules that are gone through whole; a policy with more of them is told about these first
BUDGET = 50_000  # of all walks of one load: a policy from a stranger must not hold up a reload by being intricate
_FEW = 32  # rules at one place, up to which each is looked at
_SHOWN = 3  # names of rules in a message
_TRIED = 24  # requests of one destination that are tried before that


def conflicts(rules: tuple[Rule, ...], origins: Origins, findings: Findings) -> None:
    """Warnings `unreachable`, `contradiction` and `no_path`."""
    policy = Policy("", rules=rules)
    spots: Spots = {}
    space: Space | None = None
    left, budget = EXAMINED, Budget(BUDGET)
    for rule in rules:
        glance = _glance(rule, policy, spots)
        if not glance.dead and glance.own:
            continue
        if left == 0:
            return
        left -= 1
        space = space or Space((policy,))
        try:
            _report(rule, glance, _Examination(rule, policy, space, budget), origins, findings)
        except TooComplexError:
            continue  # not certain


@dataclass(slots=True)
class _Glance:
    """dead: destinations of which no tried request passed. own: some tried request passes by this rule and by no earlier one."""

    dead: list[HostPattern] = field(default_factory=list)
    own: bool = False


Spots = dict[tuple[Binary, str, int | None, tuple[str, ...] | None], list[Rule]]  # the inspected rules by asker and place


def _glance(rule: Rule, policy: Policy, spots: Spots) -> _Glance:
    """A few requests that the rule is there for, until one passes: first by the rule itself, at least at every destination."""
    found = _Glance()
    ancestors = _ancestors(rule)
    for pattern in rule.destination.allow:
        alive, host = False, _host(pattern)
        for request in itertools.islice(_requests(rule, pattern, host, ancestors), _TRIED):
            if not alive and _plainly(rule, request, policy, spots):
                alive = found.own = True
                break
            decision = decide(request, policy)
            alive |= decision.allowed
            found.own |= decision.allowed and decision.rule == rule.name
            if alive and found.own:
                break
        if not alive:
            found.dead.append(pattern)
    return found


def _plainly(rule: Rule, request: Request, policy: Policy, spots: Spots) -> bool:
    """Whether a request that the rule allows passes by it, seen from how paths begin, without laying out all that the rules there say.

    False: not seen so. That is for `decide`, which takes ten times as long where each place has few rules.
    """
    key = (request.binary, request.host, request.port, request.ancestors)
    rules = spots.get(key)
    if rules is None:
        http = rule_on(request, policy).http
        rules = spots[key] = http.rules if http else []
    if len(rules) > _FEW or request.path is None or not any(other is rule for other in rules):
        return False
    return not any(_may_deny(other, request) or (other.position < rule.position and _may_allow(other, request)) for other in rules)


def _may_deny(rule: Rule, request: Request) -> bool:
    folded = (request.path or "").lower()
    return (
        rule.method is None
        or rule.path is None
        or request.method in rule.method.deny
        or any(folded.startswith(_beginning(glob).rstrip("/").lower()) for glob in rule.path.deny.globs)
    )


def _may_allow(rule: Rule, request: Request) -> bool:
    if rule.method is None or rule.path is None or request.method not in rule.method.allow:
        return False
    return any((request.path or "").startswith(_beginning(glob)) for glob in rule.path.allow.globs)


def _beginning(glob: str) -> str:
    return glob.partition("*")[0]


def _requests(rule: Rule, pattern: HostPattern, host: str, ancestors: tuple[str, ...]) -> Iterator[Request]:
    binaries = [_binary(name, rule) for name in rule.binary.allow]
    ports = rule.ports_for(pattern)
    if rule.method is None or rule.path is None:
        yield from (Request(binary, host, port, ancestors=ancestors) for binary, port in itertools.product(binaries, ports))
        return
    paths = [glob.replace("**", "x").replace("*", "x") for glob in rule.path.allow.globs]
    for path, method, binary, port in itertools.product(paths, rule.method.allow, binaries, ports):
        yield Request(binary, host, port, method, path, ancestors)


def _binary(name: str, rule: Rule) -> Binary:
    """A file of that name; what stands at a path has its families' names too, and their rules' vetoes."""
    return Binary(name, _names(name), name, sha256=rule.sha256[0] if rule.sha256 else "")


@functools.lru_cache(maxsize=1024)
def _names(name: str) -> frozenset[str]:
    return (load_families().of(name) if "/" in name else frozenset[str]()) | {name}


def _ancestors(rule: Rule) -> tuple[str, ...]:
    if not rule.ancestors:
        return ()
    family = load_families().expand(rule.ancestors[0])
    return ((*family.executables, *family.scripts)[0],)


def _host(pattern: HostPattern) -> str:
    if pattern.network is not None:
        return str(pattern.network.network_address)
    return f"x.{pattern.value}" if pattern.kind == "below" else pattern.value


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What becomes of a destination of a rule. vetoing: names of rules that deny all of it. level: the deepest at which they do."""

    alive: bool
    vetoing: frozenset[str] = frozenset()
    level: Level = Level.DESTINATION


class _Examination:
    """One rule, gone through whole: every kind of asker and host that it is for."""

    def __init__(self, rule: Rule, policy: Policy, space: Space, budget: Budget) -> None:
        self.rule, self.policy, self.space, self.budget = rule, policy, space, budget
        self.askers = [who for who in self.space.askers(rule.binary.allow) if self._is_for(who)]

    def _is_for(self, who: Who) -> bool:
        rule, binary = self.rule, who.binary
        if binary.names.isdisjoint(rule.binary.allow) or (rule.sha256 and binary.sha256 not in rule.sha256):
            return False
        return not rule.ancestors or started_by(who.ancestors, rule.ancestors)

    def _cells(self, pattern: HostPattern) -> Iterator[Cell]:
        for who, where, port in itertools.product(self.askers, self.space.hosts(pattern), self.rule.ports_for(pattern)):
            yield self.space.cell(who, where, port, self.policy)

    def verdict(self, pattern: HostPattern) -> _Verdict:
        """Whether any request that the rule allows at a destination passes, and if none does, who is to blame."""
        vetoing: set[str] = set()
        level = Level.DESTINATION
        for cell in self._cells(pattern):
            decision = cell.ruling.connect
            if not decision.allowed and decision.reason is Reason.RULE_DENY and decision.rule:
                vetoing.add(decision.rule)
                continue
            if not decision.allowed:
                return _Verdict(True)  # for another reason than a veto: not this module's to judge
            if self.rule.method is None or self.rule.path is None:
                return _Verdict(True)
            methods = cell.methods()
            for method in self.rule.method.allow:
                if method not in methods:  # denied: some rule here, this one, allows it
                    vetoing |= self._denying_method(cell, method)
                    level = max(level, Level.METHOD, key=_DEPTHS.index)
                elif example(self.rule.path.allow.globs, methods[method][1], budget=self.budget) is not None:
                    return _Verdict(True)
                else:
                    vetoing |= self._denying_paths(cell)
                    level = Level.PATH
        return _Verdict(not vetoing, frozenset(vetoing), level)

    def _denying_method(self, cell: Cell, method: str) -> set[str]:
        http = cell.ruling.http
        return {http.denied_methods[method].name} if http and method in http.denied_methods else set()

    def _denying_paths(self, cell: Cell) -> set[str]:
        """The one rule that alone denies every path, or all that deny some."""
        http, opened = cell.ruling.http, self.rule.path.allow.globs if self.rule.path else ()
        denying_rules = [rule for rule in http.rules if rule.path and rule.path.deny.globs] if http else []
        for rule in denying_rules:
            if rule.path and example(opened, rule.path.deny.globs, budget=self.budget) is None:
                return {rule.name}
        return {rule.name for rule in denying_rules}

    def redundant(self) -> frozenset[str]:
        """The earlier rules that together allow all that this one does; empty when something is its own, or it denies or opens more."""
        rule = self.rule
        denies = rule.binary.deny or rule.destination.deny or (rule.method and rule.method.deny) or (rule.path and rule.path.deny.globs)
        if denies or rule.destination.addresses or not self.askers:
            return frozenset()
        earlier: set[str] = set()
        for pattern in rule.destination.allow:
            for cell in self._cells(pattern):
                found = self._earlier(cell, pattern)
                if found is None:
                    return frozenset()
                earlier |= found
        return frozenset(earlier)

    def _earlier(self, cell: Cell, pattern: HostPattern) -> set[str] | None:
        """The earlier rules that allow all of a cell that this one does; None when they do not."""
        rule, connect = self.rule, cell.ruling.connect
        if rule.method is None or rule.path is None:
            relaying = connect.allowed and cell.relayed and connect.rule != rule.name
            named = pattern.kind != "name" or as_address(pattern.value) is not None
            return {str(connect.rule)} if relaying and named else None
        http = cell.ruling.http
        before = [other for other in http.rules if other.position < rule.position] if http else []
        if not any(self._dials_as_far(other, pattern) for other in before):
            return None
        said = cell.methods()
        names: set[str] = set()
        for method in rule.method.allow:
            if method not in said:
                continue  # denied
            spoken = [other for other in before if other.method and method in other.method.allow]
            alone = next((other for other in spoken if self._covers([other], said[method][1])), None)
            if alone is None and not self._covers(spoken, said[method][1]):
                return None
            names.update([alone.name] if alone else [other.name for other in spoken])
        return names

    def _covers(self, others: list[Rule], closed: tuple[str, ...]) -> bool:
        """Whether rules allow every path that this one does and nobody denies."""
        own = self.rule.path.allow.globs if self.rule.path else ()
        opened = tuple(glob for other in others if other.path for glob in other.path.allow.globs)
        if set(own) <= set(opened):
            return True
        lists = [allowing(own), denying(closed), allowing(opened)]
        return find(lists, lambda held: held[0] and not held[1] and not held[2], required=(0,), budget=self.budget) is None

    def _dials_as_far(self, other: Rule, pattern: HostPattern) -> bool:
        """A host that is named exactly may resolve to a private address; under a wildcard it may not."""
        if pattern.kind != "name" or as_address(pattern.value) is not None:
            return True
        named = any(entry.kind == "name" and entry.value == pattern.value for entry in other.destination.allow)
        return named and not other.destination.addresses


_DEPTHS = (Level.DESTINATION, Level.METHOD, Level.PATH)


def _report(rule: Rule, glance: _Glance, examination: _Examination, origins: Origins, findings: Findings) -> None:
    def warn(place: Place, code: str, message: str, accepted: str) -> None:
        findings.add(place, code, message, accepted=accepted, severity="warning")

    verdicts = {pattern: examination.verdict(pattern) for pattern in glance.dead}
    dead = {pattern: verdict for pattern, verdict in verdicts.items() if not verdict.alive}
    if len(dead) == len(rule.destination.allow):
        vetoing = frozenset[str]().union(*(verdict.vetoing for verdict in dead.values()))
        message = f"rule `{rule.name}` allows nothing: {_by(vetoing, rule)} deny all of it"
        code = "contradiction" if len(vetoing) == 1 and rule.name not in vetoing else "unreachable"
        warn(rule.place, code, message, "denials that leave something, or the policy without it")
        return
    places = origins.in_rule(rule.name, "destination.allow")
    for pattern, verdict in dead.items():
        place, by = places.get(pattern.text, rule.place), _by(verdict.vetoing, rule)
        if verdict.level is Level.PATH:
            message = f"no path that rule `{rule.name}` allows is left at `{pattern.text}`: {by} deny them"
            warn(place, "no_path", message, "paths that are not denied, or the rule without this destination")
        else:
            message = f"nothing that rule `{rule.name}` allows is left at `{pattern.text}`: {by} deny it"
            warn(place, "contradiction", message, "the rule without this destination, or without the denial")
    if not dead and not glance.own and (earlier := examination.redundant()):
        message = f"rule `{rule.name}` adds nothing: whatever it allows, {_listed(earlier)} before it allows already"
        warn(rule.place, "unreachable", message, "the policy without it")


def _by(vetoing: frozenset[str], rule: Rule) -> str:
    others = vetoing - {rule.name}
    own = ["its own lists"] if rule.name in vetoing else []
    return " and ".join([*own, *([f"the lists of {_listed(others)}"] if others else [])])


def _listed(names: frozenset[str]) -> str:
    shown, more = sorted(names)[:_SHOWN], len(names) - _SHOWN
    return " and ".join([*(f"`{name}`" for name in shown), *([f"{more} more"] if more > 0 else [])])
