"""Lint: what loads but deserves a look, because it allows more, or less, than it seems to.

Warnings only; errors belong where the parts are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from stockade.policy.document import Findings
from stockade.policy.families import Families
from stockade.policy.model import Exec, Rule


def warn(rules: tuple[Rule, ...], exec_: Exec, families: Families, findings: Findings) -> None:
    for rule in rules:
        _interpreters(rule, families, findings)
        _never_runs(rule, exec_, findings)
    for relayed, inspected in _overlaps(rules):
        findings.add(
            relayed.place,
            "contradiction",
            f"rule `{relayed.name}` relays what rule `{inspected.name}` inspects: inspection wins",
            accepted="destinations or ports that differ",
            severity="warning",
        )


def _interpreters(rule: Rule, families: Families, findings: Findings) -> None:
    names = [name for name in rule.binary.allow if families.expand(name).interpreter]
    if names:
        message = f"rule `{rule.name}` allows any program that {' or '.join(names)} runs, not one tool"
        accepted = "the script's own name, such as pip or npm, when one tool is meant"
        findings.add(rule.place, "interpreter_rule", message, accepted=accepted, severity="warning")


def _never_runs(rule: Rule, exec_: Exec, findings: Findings) -> None:
    """A binary that may not run cannot use its rule."""
    for name in rule.binary.allow:
        if name in exec_.deny or name not in exec_.allow:
            why = "exec.deny holds it" if name in exec_.deny else "exec.allow does not list it"
            findings.add(rule.place, "never_runs", f"rule `{rule.name}` is for `{name}`, which may not run: {why}", severity="warning")


def _overlaps(rules: tuple[Rule, ...]) -> Iterator[tuple[Rule, Rule]]:
    """Pairs of a relayed and an inspected rule that share a binary, a host and a port."""
    inspected = [rule for rule in rules if rule.inspected]
    for relay in (rule for rule in rules if not rule.inspected):
        for other in inspected:
            if not set(relay.binary.allow).isdisjoint(other.binary.allow) and _meet(relay, other):
                yield relay, other


def _meet(a: Rule, b: Rule) -> bool:
    return any(
        x.overlaps(y) and not set(a.ports_for(x)).isdisjoint(b.ports_for(y)) for x in a.destination.allow for y in b.destination.allow
    )
