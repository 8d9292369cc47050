"""The decision: what a policy says to a request.

Pure; the kernel compiler, the resolver, the proxy, `explain` and the tests all ask here.
"""

from __future__ import annotations

from stockade.policy.index import Entry, HostTable, Reach
from stockade.policy.model import Policy, Rule
from stockade.types import Decision, Effect, Level, Outcome, Reason, Request


def decide(request: Request, policy: Policy) -> Decision:
    """Decides as far as the request is known: without a port (DNS) or a method (connect), whether anything could be allowed.

    PASS means that HTTP must be inspected, RELAY that only L4 rules cover it; where both do, inspection wins. A denial names the deepest
    level that a rule reached and that rule, or the deny list that vetoed.
    """
    # 1) who: the rules that name this binary
    index, names = policy.index, request.binary.names
    reaches = [index.reach[name] for name in names if name in index.reach]
    if index.barred and (barred := _barred(request, policy)):
        return _deny(policy, Level.BINARY, Reason.RULE_DENY, barred)
    if not reaches:
        return _deny(policy, Level.BINARY, Reason.NO_RULE, None)

    # 2) where to: a denied destination falls whatever else allows it
    host, port = request.host, request.port
    if vetoes := _find([reach.deny for reach in reaches], host, port or 0):
        return _deny(policy, Level.DESTINATION, Reason.RULE_DENY, vetoes[0].rule)
    entries = _find([reach.allow for reach in reaches], host, port)
    if not entries:
        return _deny(policy, Level.DESTINATION, Reason.NO_RULE, _first(reaches))
    rules = _inspected(entries)
    if not rules:
        return _allow(policy, Effect.RELAY, Level.DESTINATION, entries[0].rule)
    if request.method is None and request.path is None:
        return _allow(policy, Effect.PASS, Level.DESTINATION, rules[0])

    # 3) how: a denied method at one of a rule's destinations falls whatever else allows it
    method, path = request.method, request.path
    for rule in rules:
        if rule.method and method in rule.method.deny:
            return _deny(policy, Level.METHOD, Reason.RULE_DENY, rule)
    spoken = [rule for rule in rules if method is None or (rule.method and method in rule.method.allow)]
    if not spoken:
        return _deny(policy, Level.METHOD, Reason.NO_RULE, rules[0])
    if path is None:
        return _allow(policy, Effect.PASS, Level.METHOD, spoken[0])

    # 4) what: so does a denied path; and one rule must allow both method and path
    for rule in rules:
        if rule.path and rule.path.deny.pattern and rule.path.deny.matches(path):
            return _deny(policy, Level.PATH, Reason.RULE_DENY, rule)
    for rule in spoken:
        if rule.path and rule.path.allow.matches(path):
            return _allow(policy, Effect.PASS, Level.PATH, rule)
    return _deny(policy, Level.PATH, Reason.NO_RULE, spoken[0])


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
    binary, barred = request.binary, policy.index.barred
    path = binary.script or binary.path
    tables = [barred[name] for name in binary.names | {path, path.rpartition("/")[2]} if name in barred]
    entries = _find(tables, request.host, request.port) if request.port is not None else []
    return entries[0].rule if entries else None


def _first(reaches: list[Reach]) -> Rule:
    return min((reach.first for reach in reaches), key=lambda rule: rule.position)


def _allow(policy: Policy, effect: Effect, level: Level, rule: Rule) -> Decision:
    return Decision(Outcome.ALLOW, effect, level, Reason.RULE_ALLOW, rule.name, policy.generation)


def _deny(policy: Policy, level: Level, reason: Reason, rule: Rule | None) -> Decision:
    return Decision(Outcome.DENY, Effect.REFUSE, level, reason, rule.name if rule else None, policy.generation, policy.enforced)
