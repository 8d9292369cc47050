"""Literal destinations: the addresses and CIDRs of a policy, cut into networks that do not overlap."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stockade.policy.hosts import Address, HostPattern, Network, as_address

if TYPE_CHECKING:
    from stockade.policy.model import Rule


def disjoint(rules: Iterable[Rule], stated: Iterable[tuple[Address, tuple[int, ...]]] = ()) -> tuple[tuple[Network, tuple[int, ...]], ...]:
    """Networks with the ports that some rule opens there, cut along every border that an allow or deny list draws.

    stated: addresses that are opened by something else than a rule.
    """
    opened: list[tuple[Network, tuple[int, ...]]] = [(ipaddress.ip_network(address), ports) for address, ports in stated]
    closed: list[Network] = []
    for rule in rules:
        opened += [(network, rule.ports_for(item)) for item in rule.destination.allow if (network := _network(item)) is not None]
        closed += [network for item in rule.destination.deny if (network := _network(item)) is not None]
    cuts = {network for network, _ in opened} | {inner for inner in closed if any(_within(inner, outer) for outer, _ in opened)}
    found = []
    for cut in sorted(cuts, key=lambda network: (network.version, network)):
        ports = {port for network, own in opened if _within(cut, network) for port in own}
        found += [(piece, tuple(sorted(ports))) for piece in _without(cut, cuts)]
    return tuple(found)


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


def _without(network: Network, others: set[Network]) -> list[Network]:
    """What is left of a network without the smaller ones inside it."""
    pieces: list[Network] = [network]
    for hole in others:
        if hole != network and _within(hole, network):
            pieces = [part for piece in pieces for part in _cut(piece, hole)]
    return sorted(pieces)


def _cut(piece: Network, hole: Network) -> list[Network]:
    if _within(piece, hole):
        return []
    if isinstance(piece, ipaddress.IPv4Network) and isinstance(hole, ipaddress.IPv4Network) and hole.subnet_of(piece):
        return list(piece.address_exclude(hole))
    if isinstance(piece, ipaddress.IPv6Network) and isinstance(hole, ipaddress.IPv6Network) and hole.subnet_of(piece):
        return list(piece.address_exclude(hole))
    return [piece]
