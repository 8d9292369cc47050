"""Overlaps: relayed rules that meet inspected ones, found through an index of names instead of each against each."""

from __future__ import annotations

from collections.abc import Iterator

from stockade.policy.hosts import HostPattern, as_address
from stockade.policy.model import Rule

Entry = tuple[Rule, HostPattern]


def overlaps(rules: tuple[Rule, ...]) -> Iterator[tuple[Rule, Rule]]:
    """Pairs of a relayed and an inspected rule that share a binary, a host and a port."""
    relayed = [rule for rule in rules if not rule.inspected]
    if not relayed:
        return
    table = _Table()
    for rule in rules:
        for pattern in rule.destination.allow if rule.inspected else ():
            table.add((rule, pattern))
    for rule in relayed:
        met = {id(other): other for pattern in rule.destination.allow for other in table.meeting(rule, pattern)}
        yield from ((rule, other) for other in sorted(met.values(), key=lambda other: other.position))


class _Table:
    """Destination entries, so kept that those which could meet another are found without a look at the rest."""

    def __init__(self) -> None:
        self.under: dict[str, list[Entry]] = {}  # names and wildcards, by their own name and each one above it
        self.below: dict[str, list[Entry]] = {}  # wildcards, by the part below the star
        self.literal: list[Entry] = []  # networks and addresses

    def add(self, entry: Entry) -> None:
        pattern = entry[1]
        if pattern.network is not None or as_address(pattern.value) is not None:
            self.literal.append(entry)
            return
        for name in _upwards(pattern.value):
            self.under.setdefault(name, []).append(entry)
        if pattern.kind == "below":
            self.below.setdefault(pattern.value, []).append(entry)

    def meeting(self, rule: Rule, pattern: HostPattern) -> Iterator[Rule]:
        """The rules whose entries share a binary, a host and a port with this one."""
        binaries, ports = set(rule.binary.allow), set(rule.ports_for(pattern))
        for other, entry in self._near(pattern):
            if pattern.overlaps(entry) and not (binaries.isdisjoint(other.binary.allow) or ports.isdisjoint(other.ports_for(entry))):
                yield other

    def _near(self, pattern: HostPattern) -> Iterator[Entry]:
        if pattern.network is not None or as_address(pattern.value) is not None:
            yield from self.literal
            return
        yield from self.under.get(pattern.value, ())
        for name in _upwards(pattern.value):
            yield from self.below.get(name, ())


def _upwards(name: str) -> Iterator[str]:
    """a.example.com, example.com, com."""
    while name:
        yield name
        name = name.partition(".")[2]
