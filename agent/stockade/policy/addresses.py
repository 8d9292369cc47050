"""Addresses that must not be dialled, whatever name led to them: one table, asked after every resolution about the address that is then
dialled.

A public name may answer with a private, loopback or metadata address (rebinding). Documentation networks are not in the table: they lead
nowhere, and test machines give them to public names.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from stockade.policy.hosts import LOCALHOST, Address, Network, as_address
from stockade.policy.index import Entry
from stockade.policy.model import Policy
from stockade.types import Binary


@dataclass(frozen=True, slots=True)
class Range:
    """private: reachable when a rule names the host exactly, or states the range in `addresses:`. Everything else never is."""

    network: Network
    name: str
    private: bool = False

    def __str__(self) -> str:
        single = self.network.prefixlen == self.network.max_prefixlen
        return f"{self.name} {self.network.network_address if single else self.network}"


def _row(network: str, name: str, *, private: bool = False) -> Range:
    return Range(ipaddress.ip_network(network), name, private)


# The first row that holds the address answers: the narrow rows stand before the wide ones.
RANGES = (
    _row("169.254.169.254/32", "metadata"),  # EC2, GCE, Azure, OpenStack
    _row("168.63.129.16/32", "metadata"),  # Azure's host agent: a public address that only a VM can reach
    _row("100.100.100.200/32", "metadata"),  # Alibaba Cloud, inside CGNAT
    _row("192.0.0.192/32", "metadata"),  # Oracle Cloud's older address
    _row("fd00:ec2::254/128", "metadata"),  # EC2 over IPv6, inside ULA, as the next four are
    _row("fd00:ec2::23/128", "metadata"),  # EKS: credentials of the pod's role
    _row("fd20:ce::254/128", "metadata"),  # GCE
    _row("fd00:c1::a9fe:a9fe/128", "metadata"),  # Oracle Cloud
    _row("fd00:42::42/128", "metadata"),  # Scaleway
    _row("198.18.0.0/15", "agent"),  # Stockade's synthetic addresses
    _row("fd57:a11d::/64", "agent"),
    _row("0.0.0.0/32", "unspecified"),  # Linux dials itself
    _row("0.0.0.0/8", "this network"),
    _row("127.0.0.0/8", "loopback"),
    _row("169.254.0.0/16", "link-local"),
    _row("192.0.0.0/24", "protocol assignments"),
    _row("192.88.99.0/24", "6to4 relay"),
    _row("224.0.0.0/4", "multicast"),
    _row("255.255.255.255/32", "broadcast"),
    _row("240.0.0.0/4", "reserved"),
    _row("::/128", "unspecified"),
    _row("::1/128", "loopback"),
    _row("fe80::/10", "link-local"),
    _row("fec0::/10", "site-local"),
    _row("ff00::/8", "multicast"),
    _row("100::/64", "discard"),
    _row("10.0.0.0/8", "private", private=True),
    _row("172.16.0.0/12", "private", private=True),
    _row("192.168.0.0/16", "private", private=True),
    _row("100.64.0.0/10", "shared (CGNAT)", private=True),
    _row("fc00::/7", "unique local", private=True),
)


def refused_range(
    address: Address, host: str, policy: Policy, port: int | None, binary: Binary | None = None, *, own: bool = False
) -> str | None:
    """The range that forbids dialling address for a normalised host, such as `metadata 169.254.169.254`; None when it may be dialled.

    port None is any port. binary None is any binary: any rule's host then opens a private range, any rule's denied CIDR closes one. own:
    the address is this machine's, whose services no firewall keeps from itself: private, however public it looks.
    """
    names = binary.names if binary else None
    if host == LOCALHOST and address.is_loopback:
        services = policy.host_services()
        return None if services and (port is None or port in services) else str(range_of(address))
    for dialled in (address, *_embedded(address)):
        found = range_of(dialled) or (_own(dialled) if own and dialled == address else None)
        if found is not None and not (found.private and _opened(dialled, host, policy, port, names)):
            return str(found)
        for entry in policy.index.denied_networks(dialled, names):
            if not entry.ports or port is None or port in entry.ports:
                return f"denied {entry.pattern.text}"
    return "outside `addresses:`" if _outside(address, host, policy, port, names) else None


def range_of(address: Address) -> Range | None:
    """The row that holds an address itself, whatever it embeds."""
    return next((row for row in RANGES if row.network.version == address.version and address in row.network), None)


def _own(address: Address) -> Range:
    return Range(ipaddress.ip_network(address), "this machine's own", private=True)


def _opened(address: Address, host: str, policy: Policy, port: int | None, names: frozenset[str] | None) -> bool:
    """Whether some rule of these binaries, or a host that Rego names exactly, lets host lead to a private address."""
    if policy.rego is not None and policy.rego.names_exactly(host, port, names):
        return True
    return any(
        entry.covers(port) and _lets(entry, address, host)
        for entry in policy.index.reaching(host)
        if names is None or not names.isdisjoint(entry.rule.binary.allow)
    )


def _outside(address: Address, host: str, policy: Policy, port: int | None, names: frozenset[str] | None) -> bool:
    """Whether every rule that reaches host says where it lies, and none says here.

    An internal name must not lead to the internet either.
    """
    if policy.rego is not None and policy.rego.names_exactly(host, port, names):
        return False
    entries = [
        entry
        for entry in policy.index.reaching(host)
        if entry.covers(port) and (names is None or not names.isdisjoint(entry.rule.binary.allow))
    ]
    stated = [network for entry in entries for network in entry.rule.destination.addresses]
    bound = bool(entries) and all(entry.rule.destination.addresses for entry in entries)
    return bound and not any(dialled in network for dialled in (address, *_embedded(address)) for network in stated)


def _lets(entry: Entry, address: Address, host: str) -> bool:
    """`addresses:` says where, for every kind of entry; without it only what was named exactly, or as this very address, may be private."""
    stated = entry.rule.destination.addresses
    if stated:
        return any(address in network for network in stated)
    return entry.pattern.kind == "name" or (entry.pattern.network is not None and as_address(host) is not None)


_COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291, deprecated
_TRANSLATED = ipaddress.ip_network("::ffff:0:0:0/96")  # RFC 2765, SIIT
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214: upper half of the interface identifier


def _embedded(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that a gateway on the way would take out of an IPv6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    if isatap or any(address in network for network in (_COMPATIBLE, _TRANSLATED, _NAT64)):
        found.append(low)
    if address in _NAT64_LOCAL:
        found += [*_around_octet(address), low] if int(low) else _around_octet(address) or [low]
    return tuple(inner for inner in found if inner is not None)


def _around_octet(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """IPv4 behind a prefix of 48, 56 or 64 bits: it leaves the ninth octet zero, and zeros follow it (RFC 6052, 2.2)."""
    octets = address.packed
    spans = [octets[start:8] + octets[9 : start + 5] for start in (6, 7, 8) if not any(octets[start + 5 :])]
    return [ipaddress.IPv4Address(span) for span in spans if octets[8] == 0 and any(span)]
