"""Literal destinations: the addresses and CIDRs of a policy, cut into networks that do not overlap."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stockade.policy.hosts import Address, HostPattern, Network, as_address

if TYPE_CHECKING:
    from stockade.policy.model import Rule


def disjoint(rules: Iterable[Rule], stated: Iterable[tuple[Address, tuple[int, ...]]] = ()) -> tuple[tuple[Network, tuple[int, ...]], ...]:
    """Networks with the ports that some rule opens there, cut along every border that an allow or deny list draws.

    stated: addresses that are opened by something else than a rule.
    """
    opened: dict[Network, set[int]] = {}
    closed: set[Network] = set()
    for address, ports in stated:
        opened.setdefault(ipaddress.ip_network(address), set()).update(ports)
    for rule in rules:
        for item in rule.destination.allow:
            if (network := _network(item)) is not None:
                opened.setdefault(network, set()).update(rule.ports_for(item))
        closed.update(network for item in rule.destination.deny if (network := _network(item)) is not None)
    cuts = _Cuts()
    for network in sorted({*opened, *closed}, key=lambda network: (network.version, network)):
        cuts.add(network, opened.get(network))
    return cuts.pieces()


@dataclass(slots=True)
class _Cut:
    """A network with the ports that it or one around it opens, and the networks that lie in it and in nothing smaller, in order."""

    network: Network
    ports: frozenset[int]
    inside: list[Network] = field(default_factory=list)


class _Cuts:
    """Networks lie inside each other or apart: in order, each comes after those around it, so one pass finds where it lies."""

    def __init__(self) -> None:
        self._found: list[_Cut] = []
        self._around: list[_Cut] = []

    def add(self, network: Network, ports: set[int] | None) -> None:
        """Networks come in order. ports: None for one that is only denied, which is a border where something around it is opened."""
        while self._around and not _within(network, self._around[-1].network):
            self._around.pop()
        outer = self._around[-1] if self._around else None
        if ports is None and outer is None:
            return
        if outer is not None:
            outer.inside.append(network)
        cut = _Cut(network, frozenset(ports or ()) | (outer.ports if outer is not None else frozenset()))
        self._found.append(cut)
        self._around.append(cut)

    def pieces(self) -> tuple[tuple[Network, tuple[int, ...]], ...]:
        return tuple((piece, tuple(sorted(cut.ports))) for cut in self._found for piece in _without(cut.network, cut.inside))


def _network(pattern: HostPattern) -> Network | None:
    """What an entry covers when it is an address or CIDR."""
    if pattern.network is not None:
        return pattern.network
    address = as_address(pattern.value) if pattern.kind == "name" else None
    return None if address is None else ipaddress.ip_network(address)


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def _without(network: Network, inside: list[Network]) -> Iterator[Network]:
    """What is left of a network without those inside it, which come in order."""
    if not inside:
        yield network
        return
    address, last = int(network.network_address), int(network.broadcast_address)
    for hole in inside:
        yield from _span(network, address, int(hole.network_address) - 1)
        address = int(hole.broadcast_address) + 1
    yield from _span(network, address, last)


def _span(network: Network, first: int, last: int) -> Iterator[Network]:
    """The networks that a run of addresses of this one consists of."""
    if first > last:
        return
    if isinstance(network, ipaddress.IPv4Network):
        yield from ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last))
    else:
        yield from ipaddress.summarize_address_range(ipaddress.IPv6Address(first), ipaddress.IPv6Address(last))
