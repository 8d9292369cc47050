"""Rulings: all that a policy's rules together say about one binary at one host and port.

Everything that does not depend on method and path is decided here, once per generation; what does is laid out so that one look-up answers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from stockade.policy.families import started_by
from stockade.policy.index import Entry, HostTable, Reach
from stockade.policy.model import Policy, Rule
from stockade.policy.trie import Trie
from stockade.types import FORGOTTEN, Binary, Decision, Effect, Level, Outcome, Reason, Request


@dataclass(frozen=True, slots=True)
class Spoken:
    """The rules that allow a method, in policy order, and their allowed paths, numbered by their place among these rules."""

    rules: list[Rule]
    paths: Trie


class Http:
    """What inspected rules say. Laid out when the first request is asked about: the kernel compiler, which asks most, never does."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules
        self._speaking: dict[str | None, Spoken] = {}

    @functools.cached_property
    def denied_methods(self) -> dict[str, Rule]:
        """The first rule that denies each method."""
        denied: dict[str, Rule] = {}
        for rule in self.rules:
            for method in rule.method.deny if rule.method else ():
                denied.setdefault(method, rule)
        return denied

    @functools.cached_property
    def vetoes(self) -> Trie:
        """The denied paths, numbered by their rule's place among the rules."""
        trie = Trie(veto=True)
        for number, rule in enumerate(self.rules):
            for glob in rule.path.deny.globs if rule.path else ():
                trie.add(glob, number)
        return trie

    def speaking(self, method: str | None) -> Spoken | None:
        """The rules that allow a method, any of them for None. Only what some rule allows is remembered: clients make methods up."""
        if method in self._speaking:
            return self._speaking[method]
        rules = [rule for rule in self.rules if method is None or (rule.method and method in rule.method.allow)]
        if not rules:
            return None
        paths = Trie(veto=False)
        for number, rule in enumerate(rules):
            for glob in rule.path.allow.globs if rule.path else ():
                paths.add(glob, number)
        spoken = self._speaking[method] = Spoken(rules, paths)
        return spoken


@dataclass(frozen=True, slots=True)
class Ruling:
    """connect: the decision as long as method and path are not known. http: None when they would not change it."""

    connect: Decision
    http: Http | None
    generation: int
    enforced: bool
    _allowed: dict[tuple[Level, int], Decision] = field(default_factory=dict)

    def allow(self, effect: Effect, level: Level, rule: Rule) -> Decision:
        key = (level, rule.position)
        decision = self._allowed.get(key)
        if decision is None:
            decision = Decision(Outcome.ALLOW, effect, level, Reason.RULE_ALLOW, rule.name, self.generation)
            self._allowed[key] = decision
        return decision

    def deny(self, level: Level, reason: Reason, rule: Rule) -> Decision:
        return Decision(Outcome.DENY, Effect.REFUSE, level, reason, rule.name, self.generation, self.enforced)


def rule_on(request: Request, policy: Policy) -> Ruling:
    """The ruling on a request's binary, host and port."""

    def allow(effect: Effect, rule: Rule, http: Http | None = None) -> Ruling:
        decision = Decision(Outcome.ALLOW, effect, Level.DESTINATION, Reason.RULE_ALLOW, rule.name, policy.generation)
        return Ruling(decision, http, policy.generation, policy.enforced)

    def deny(level: Level, reason: Reason, rule: Rule | None) -> Ruling:
        name = rule.name if rule else None
        decision = Decision(Outcome.DENY, Effect.REFUSE, level, reason, name, policy.generation, policy.enforced)
        return Ruling(decision, None, policy.generation, policy.enforced)

    # 1) who: the rules that name this binary
    index, binary = policy.index, request.binary
    reaches = [index.reach[name] for name in binary.names if name in index.reach]
    if index.barred and (barred := _barred(request, policy)):
        return deny(Level.BINARY, Reason.RULE_DENY, barred)
    named = _named(reaches, request)
    if named is None:
        return deny(Level.BINARY, Reason.NO_RULE, None)

    # 2) where to: a denied destination falls whatever else allows it
    host, port = request.host, request.port
    vetoes = _find([reach.deny for reach in reaches], host, port or 0)
    if index.narrowed:
        vetoes = [entry for entry in vetoes if _may_veto(entry.rule, request)]
    if vetoes:
        return deny(Level.DESTINATION, Reason.RULE_DENY, vetoes[0].rule)
    entries = _find([reach.allow for reach in reaches], host, port)
    if index.narrowed:
        entries = [entry for entry in entries if _may_be_for(entry.rule, request)]
    if not entries:
        return deny(Level.DESTINATION, Reason.NO_RULE, named)
    rules = _inspected(entries)
    if not rules:
        return allow(Effect.RELAY, entries[0].rule)
    return allow(Effect.PASS, rules[0], Http(rules))


def _named(reaches: list[Reach], request: Request) -> Rule | None:
    """The first rule that is for this binary, wherever to."""
    first = (next((rule for rule in reach.rules if _may_be_for(rule, request)), None) for reach in reaches)
    return min((rule for rule in first if rule is not None), key=lambda rule: rule.position, default=None)


def _may_be_for(rule: Rule, request: Request) -> bool:
    """Whether a rule that names the binary may be for this file of it, started by whom it was. Who is not known yet narrows nothing."""
    ancestors = request.ancestors
    return _is_file(rule, request) and (not rule.ancestors or ancestors is None or started_by(ancestors, rule.ancestors))


def _may_veto(rule: Rule, request: Request) -> bool:
    """The same of its deny lists. Not known yet must not mean anybody; not remembered any more may be anybody."""
    if not rule.ancestors:
        return _is_file(rule, request)
    ancestors = request.ancestors or ()
    return _is_file(rule, request) and (FORGOTTEN in ancestors or started_by(ancestors, rule.ancestors))


def _is_file(rule: Rule, request: Request) -> bool:
    return not rule.sha256 or request.binary.sha256 in rule.sha256


def _find(tables: list[HostTable], host: str, port: int | None) -> list[Entry]:
    """Entries in policy order.

    Port None is covered by every entry, port 0 only by those for all ports: for a veto, unknown must not mean any.
    """
    found = [entry for table in tables for entry in table.find(host) if entry.covers(port)]
    if len(found) > 1:
        found.sort(key=_position)
    return found


def _position(entry: Entry) -> int:
    return entry.rule.position


def _inspected(entries: list[Entry]) -> list[Rule]:
    """The rules of entries that look into HTTP, each once."""
    rules: list[Rule] = []
    for entry in entries:
        if entry.rule.inspected and (not rules or rules[-1] is not entry.rule):
            rules.append(entry.rule)
    return rules


def _barred(request: Request, policy: Policy) -> Rule | None:
    """The rule that denies this binary at this destination. Base names count too: a deny must not depend on how families overlap."""
    barred = policy.index.barred
    tables = [barred[name] for name in spellings(request.binary) if name in barred]
    entries = _find(tables, request.host, request.port) if request.port is not None else []
    return entries[0].rule if entries else None


def spellings(binary: Binary) -> frozenset[str]:
    """Every name by which a deny list may mean a binary."""
    path = binary.script or binary.path
    return binary.names | {path, path.rpartition("/")[2]}
