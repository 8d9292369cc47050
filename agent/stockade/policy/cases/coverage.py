"""Coverage: which entries of a policy spoke when it decided a request, and where each entry was written.

An entry is one item of one list, the smallest thing a policy's author can take away. Judges nothing itself: `decide` says which rule spoke.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stockade.policy.decide import decide
from stockade.policy.format.document import NOWHERE, Place
from stockade.policy.model import Policy, Rule
from stockade.policy.paths import PathList, allow_list, deny_list
from stockade.policy.privacy import Privacy, Route, covers
from stockade.types import Binary, Level, Reason, Request


@dataclass(frozen=True, slots=True)
class Entry:
    """rule: its name, empty for the lists of `exec` and the routes of `privacy`. text: as written; of a route, after its name."""

    rule: str
    level: Level
    list: Literal["allow", "deny", "routes.when"]
    text: str

    def __str__(self) -> str:
        owner = f"rule {self.rule}: " if self.rule else ""
        return f"{owner}{self.level.value}.{self.list} {self.text}"


def entries(policy: Policy) -> Iterator[Entry]:
    """Every entry, in the policy's order."""
    for rule in policy.rules:
        yield from (Entry(rule.name, Level.BINARY, "allow", name) for name in rule.binary.allow)
        yield from (Entry(rule.name, Level.BINARY, "deny", name) for name in rule.binary.deny)
        yield from (Entry(rule.name, Level.DESTINATION, "allow", pattern.text) for pattern in rule.destination.allow)
        yield from (Entry(rule.name, Level.DESTINATION, "deny", pattern.text) for pattern in rule.destination.deny)
        if rule.method is not None:
            yield from (Entry(rule.name, Level.METHOD, "allow", name) for name in rule.method.allow)
            yield from (Entry(rule.name, Level.METHOD, "deny", name) for name in rule.method.deny)
        if rule.path is not None:
            yield from (Entry(rule.name, Level.PATH, "allow", glob) for glob in rule.path.allow.globs)
            yield from (Entry(rule.name, Level.PATH, "deny", glob) for glob in rule.path.deny.globs)
    yield from (Entry("", Level.EXEC, "allow", name) for name in policy.exec.allow)
    yield from (Entry("", Level.EXEC, "deny", name) for name in policy.exec.deny)
    for each in policy.privacy.routes if policy.privacy is not None else ():
        yield from (_of_route(each, pattern) for pattern in each.when)


def _of_route(each: Route, pattern: str) -> Entry:
    return Entry("", Level.PRIVACY, "routes.when", f"{each.name} {pattern}")


def spoken_route(name: str | None, category: str, privacy: Privacy) -> frozenset[Entry]:
    """The entries of a route that took a category."""
    return frozenset(
        _of_route(each, pattern) for each in privacy.routes if each.name == name for pattern in each.when if covers(pattern, category)
    )


def spoken(request: Request, policy: Policy) -> frozenset[Entry]:
    """The entries that made `decide` answer a request as it does: of the rule that allows it, each entry that covers it, on every level
    that is known; of the rule that vetoes it, each entry of the vetoing list that does. Empty when no rule spoke.
    """
    decision = decide(request, policy)
    rule = next((rule for rule in policy.rules if rule.name == decision.rule), None)
    if rule is None:
        return frozenset()
    if decision.reason is Reason.RULE_ALLOW:
        return frozenset(_allowing(request, rule))
    if decision.reason is Reason.RULE_DENY:
        return frozenset(_vetoing(request, rule, decision.level))
    return frozenset()


def spoken_exec(binary: Binary, policy: Policy) -> frozenset[Entry]:
    """The entries of `exec` that made `Policy.may_exec` answer as it does."""
    reason = policy.may_exec(binary).reason
    if reason is Reason.EXEC_DENIED:
        return frozenset(Entry("", Level.EXEC, "deny", name) for name in policy.exec.deny if name in _spelt(binary))
    if reason is Reason.EXEC_ALLOWED:
        return frozenset(Entry("", Level.EXEC, "allow", name) for name in policy.exec.allow if name in binary.names)
    return frozenset()


def _allowing(request: Request, rule: Rule) -> Iterator[Entry]:
    yield from (Entry(rule.name, Level.BINARY, "allow", name) for name in rule.binary.allow if name in request.binary.names)
    for pattern in rule.destination.allow:
        if pattern.matches(request.host) and (request.port is None or request.port in rule.ports_for(pattern)):
            yield Entry(rule.name, Level.DESTINATION, "allow", pattern.text)
    if rule.method is not None and request.method in rule.method.allow:
        yield Entry(rule.name, Level.METHOD, "allow", request.method)
    if rule.path is not None and request.path is not None:
        yield from (Entry(rule.name, Level.PATH, "allow", glob) for glob in rule.path.allow.globs if _allow(glob).matches(request.path))


def _vetoing(request: Request, rule: Rule, level: Level) -> Iterator[Entry]:
    if level is Level.BINARY:
        spelt = _spelt(request.binary)
        yield from (Entry(rule.name, level, "deny", name) for name in rule.binary.deny if name in spelt)
    elif level is Level.DESTINATION:
        for pattern in rule.destination.deny:
            if pattern.matches(request.host) and pattern.port in (None, request.port):
                yield Entry(rule.name, level, "deny", pattern.text)
    elif level is Level.METHOD and rule.method is not None and request.method in rule.method.deny:
        yield Entry(rule.name, level, "deny", request.method)
    elif level is Level.PATH and rule.path is not None and request.path is not None:
        yield from (Entry(rule.name, level, "deny", glob) for glob in rule.path.deny.globs if _deny(glob).matches(request.path))


@functools.lru_cache(maxsize=4096)
def _allow(glob: str) -> PathList:
    return allow_list([glob])


@functools.lru_cache(maxsize=4096)
def _deny(glob: str) -> PathList:
    return deny_list([glob])


def _spelt(binary: Binary) -> frozenset[str]:
    """Under which names a deny list holds a binary."""
    path = binary.script or binary.path
    return binary.names | {path, path.rpartition("/")[2]}


def written(policy: Policy) -> dict[Entry, Place]:
    """Where each entry was written. What `exec` allows only because a rule names it was written nowhere, and is left out."""
    implied = {place for rule in policy.rules for place in policy.origins.in_rule(rule.name, "binary.allow").values()}
    found: dict[Entry, Place] = {}
    for entry in entries(policy):
        key = f"{entry.level.value}.{entry.list}"
        if entry.rule:
            found[entry] = policy.origins.in_rule(entry.rule, key).get(entry.text, NOWHERE)
        elif (place := policy.origins.entry(key, entry.text)) not in implied:
            found[entry] = place
    return found
