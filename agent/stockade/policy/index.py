"""The index of a policy's rules: which of them could speak to a (binary, host), found without scanning.

Built once per generation. A policy of 1,000 rules is asked on every connect and every request; a look-up here costs one dictionary access
per name of the binary and per label of the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stockade.policy.hosts import Address, HostPattern, Network, as_address

if TYPE_CHECKING:
    from stockade.policy.model import Rule
    from stockade.policy.ruling import Ruling
    from stockade.types import Binary


@dataclass(frozen=True, slots=True)
class Entry:
    """One destination entry of one rule. ports: empty means every port (deny entries without one)."""

    rule: Rule
    pattern: HostPattern
    ports: tuple[int, ...]

    def covers(self, port: int | None) -> bool:
        """An unknown port narrows nothing."""
        return port is None or not self.ports or port in self.ports


@dataclass(slots=True)
class HostTable:
    """Entries by host. Filled while an Index is built, only read afterwards."""

    exact: dict[str, list[Entry]] = field(default_factory=dict)
    below: dict[str, list[Entry]] = field(default_factory=dict)
    networks: list[tuple[Network, Entry]] = field(default_factory=list)
    anywhere: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """In the order of the rules, which is kept among entries of one host."""
        pattern = entry.pattern
        if pattern.kind == "name":
            self.exact.setdefault(pattern.value, []).append(entry)
        elif pattern.kind == "below":
            self.below.setdefault(pattern.value, []).append(entry)
        elif pattern.network is not None:
            self.networks.append((pattern.network, entry))
        else:
            self.anywhere.append(entry)

    def find(self, host: str) -> list[Entry]:
        """Entries that match a normalised host; treat the answer as read-only."""
        found = self.exact.get(host)
        if not (self.below or self.networks or self.anywhere):
            return found or []
        found = [*(found or ()), *self.anywhere]
        if self.networks:
            address = as_address(host)
            if address is not None:
                found += [entry for network, entry in self.networks if address in network]
        if self.below:
            dot = host.find(".")
            while dot >= 0:
                found += self.below.get(host[dot + 1 :], ())
                dot = host.find(".", dot + 1)
        return found


@dataclass(slots=True)
class Reach:
    """What the rules that allow one binary say about hosts. rules: all of these, in policy order."""

    rules: list[Rule] = field(default_factory=list)
    allow: HostTable = field(default_factory=HostTable)
    deny: HostTable = field(default_factory=HostTable)


@dataclass(slots=True)
class Index:
    """reach: by binary. barred: destinations of rules that deny a binary, by that binary. every: all allow entries, whatever the binary.

    narrowed: some rule asks for more of a binary than its name; asks_ancestors: for who started it. rulings: what ruling.py has worked out,
    by (binary, host, port, ancestors when they are asked for).
    """

    reach: dict[str, Reach] = field(default_factory=dict)
    barred: dict[str, HostTable] = field(default_factory=dict)
    every: HostTable = field(default_factory=HostTable)
    narrowed: bool = False
    asks_ancestors: bool = False
    rulings: dict[tuple[Binary, str, int | None, tuple[str, ...] | None], Ruling] = field(default_factory=dict)

    def reaching(self, host: str) -> list[Entry]:
        return self.every.find(host)

    def denied_networks(self, address: Address, names: frozenset[str] | None) -> list[Entry]:
        """CIDR entries of deny lists that hold an address, for the binaries named, or for any when names is None."""
        reaches = self.reach.values() if names is None else (self.reach[name] for name in names if name in self.reach)
        return [entry for reach in reaches for network, entry in reach.deny.networks if address in network]


def build(rules: Iterable[Rule]) -> Index:
    """Rules come in policy order and keep it in every list."""
    index = Index()
    for rule in rules:
        index.asks_ancestors |= bool(rule.ancestors)
        index.narrowed |= bool(rule.ancestors or rule.sha256)
        opened = [Entry(rule, pattern, rule.ports_for(pattern)) for pattern in rule.destination.allow]
        closed = [Entry(rule, pattern, () if pattern.port is None else (pattern.port,)) for pattern in rule.destination.deny]
        for entry in opened:
            index.every.add(entry)
        for name in dict.fromkeys(rule.binary.allow):
            reach = index.reach.setdefault(name, Reach())
            reach.rules.append(rule)
            for entry in opened:
                reach.allow.add(entry)
            for entry in closed:
                reach.deny.add(entry)
        for name in rule.binary.deny:
            table = index.barred.setdefault(name, HostTable())
            for entry in opened:
                table.add(entry)
    return index
