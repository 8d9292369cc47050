"""Policy tests: suites put to the policies they are about, and what of a policy they reach. Owns verdicts; reads and prints nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stockade.policy.cases.coverage import Entry, spoken, spoken_exec, spoken_route, written
from stockade.policy.cases.nearest import nearest
from stockade.policy.cases.suite import Call, Case, Suite
from stockade.policy.format.document import Place
from stockade.policy.model import Policy
from stockade.policy.question import ask, named_binary
from stockade.privacy.finding import Finding
from stockade.privacy.route import Routing, route
from stockade.types import Decision, Effect, Level, Outcome, Request


@dataclass(frozen=True, slots=True)
class Result:
    """nearest: the rule that came closest, in words, when the case was missed. spoken: the entries that decided."""

    case: Case
    decision: Decision
    passed: bool
    nearest: str
    spoken: frozenset[Entry]


@dataclass(frozen=True, slots=True)
class Unreached:
    """An entry, or a whole rule when entry is None, that no case reached."""

    place: Place
    rule: str
    entry: Entry | None

    def __str__(self) -> str:
        return f"{self.place.path}:{self.place.line}: {self.entry if self.entry is not None else f'rule {self.rule}'}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """total: rules and entries that are written in the files under test."""

    total: int
    reached: int
    unreached: tuple[Unreached, ...]

    @property
    def percent(self) -> float:
        """Rounded down to a tenth, so that 100 means all."""
        return self.reached * 1000 // self.total / 10 if self.total else 100.0


def run(suite: Suite) -> tuple[Result, ...]:
    """Every case put to the policy, in the order written."""
    return tuple(_result(case, suite.policy) for case in suite.cases)


def _call(case: Case, call: Call, policy: Policy) -> Result:
    """What the privacy router makes of a call, as far as its length does not count."""
    privacy = policy.privacy
    assert privacy is not None

    def routed(holds: Sequence[str]) -> Routing:
        found = [[Finding(0, 1, category, "", 1.0) for category in holds]]
        return route(call, found, call.host, privacy, sandbox=call.sandbox, answer_tokens=0)

    answer = routed(call.holds)
    outcome = Outcome.DENY if answer.effect is Effect.REFUSE else Outcome.ALLOW
    decision = Decision(outcome, answer.effect, Level.PRIVACY, answer.reason, answer.rule, policy.generation, enforced=answer.enforced)
    passed = case.expected.met_by(decision)
    spoke = (spoken_route(routed([category]).rule, category, privacy) for category in call.holds)
    return Result(case, decision, passed, "" if passed else answer.detail, frozenset[Entry]().union(*spoke))


def _result(case: Case, policy: Policy) -> Result:
    if case.call is not None:
        return _call(case, case.call, policy)
    binary = named_binary(case.binary, policy, sha256=case.sha256)
    if case.target is None:
        decision = policy.may_exec(binary)
        passed = case.expected.met_by(decision)
        listed = f"exec.allow lists {', '.join(policy.exec.allow) or 'nothing'}"
        return Result(case, decision, passed, "" if passed else listed, spoken_exec(binary, policy))
    request = Request(binary, case.target.host, case.target.port, case.method, case.target.path)
    if case.ancestors is not None:
        request = dataclasses.replace(request, ancestors=case.ancestors)
    answer = ask(request, policy)
    passed = case.expected.met_by(answer.decision)
    if answer.request is None:
        return Result(case, answer.decision, passed, "" if passed else "the path has no canonical form", frozenset())
    close = None if passed else nearest(answer.request, policy)
    found = "" if passed else str(close) if close else "the policy has no rules"
    return Result(case, answer.decision, passed, found, spoken(answer.request, policy))


def coverage(runs: Sequence[tuple[Suite, Sequence[Result]]]) -> Coverage:
    """Which rules and entries the cases reached. What a policy extends is for the tests of the file that writes it."""
    places: dict[tuple[Path, Entry], Place] = {}
    reached: set[tuple[Path, Entry]] = set()
    for suite, results in runs:
        spoke = frozenset[Entry]().union(*(result.spoken for result in results))
        files = {str(file): file.resolve() for file in suite.files}
        for entry, place in written(suite.policy).items():
            if place.path in files:
                key = (files[place.path], entry)
                places[key] = place
                if entry in spoke:
                    reached.add(key)
    rules: dict[tuple[Path, str], list[tuple[Path, Entry]]] = {}
    for key in places:
        rules.setdefault((key[0], key[1].rule), []).append(key)
    missing: list[Unreached] = []
    hit = 0
    for (_, rule), keys in rules.items():
        spoke_at_all = any(key in reached for key in keys)
        hit += spoke_at_all and rule != ""
        if spoke_at_all or not rule:
            missing += [Unreached(places[key], rule, key[1]) for key in keys if key not in reached]
        else:
            missing.append(Unreached(places[keys[0]], rule, None))
    named = sum(rule != "" for _, rule in rules)
    missing.sort(key=lambda item: (item.place.path, item.place.line, item.place.column))
    return Coverage(len(places) + named, len(reached) + hit, tuple(missing))
