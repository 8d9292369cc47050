"""What a certificate under an organisation's root may be used for: the names and addresses that the policy lets a sandbox reach by HTTP.

Written into it as name constraints (RFC 5280, 4.2.1.10): everybody who trusts that root would believe a key that is stolen otherwise.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade.policy import Policy, Rule
from stockade.policy.hosts import HostError, HostPattern, Network, as_address, parse_pattern
from stockade.types import StockadeError

if TYPE_CHECKING:
    from cryptography import x509

MOST = 128  # of a certificate that goes along with every handshake
ANY = "*"
_NONE = "invalid"  # a name that nobody has (RFC 2606): permitted alone, it permits none


@dataclass(frozen=True, slots=True)
class Names:
    """hosts: each with everything below it. everything: no constraint."""

    hosts: frozenset[str] = frozenset()
    networks: frozenset[Network] = frozenset()
    everything: bool = False

    def __len__(self) -> int:
        return len(self.hosts) + len(self.networks)

    def __str__(self) -> str:
        return ANY if self.everything else " ".join((*sorted(self.hosts), *sorted(map(str, self.networks)))) or "none"

    def covers(self, other: Names) -> bool:
        """Whether a certificate for these will do for those."""
        if self.everything or other.everything:
            return self.everything
        return all(self._covers(host) for host in other.hosts) and other.networks <= self.networks

    def _covers(self, host: str) -> bool:
        while host not in self.hosts:
            host = host.partition(".")[2]
            if not host:
                return False
        return True

    def constraints(self) -> x509.NameConstraints | None:
        """None: nothing is constrained."""
        from cryptography import x509

        if self.everything:
            return None
        permitted: list[x509.GeneralName] = [x509.DNSName(host) for host in sorted(self.hosts or {_NONE})]
        permitted += [x509.IPAddress(network) for network in sorted(self.networks, key=str)]
        versions = {network.version for network in self.networks}  # a kind of which none is permitted would be free
        all_of = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}
        excluded = [x509.IPAddress(network) for version, network in all_of.items() if version not in versions]
        return x509.NameConstraints(permitted, excluded or None)


def of(policy: Policy, rules: Iterable[Rule] = ()) -> Names:
    """Of a policy, and of the rules that are in force beside it. Raises StockadeError: they cannot be listed, or are too many."""
    without = [why for why, said in {"mode: observe": not policy.enforced, "rego": policy.rego is not None}.items() if said]
    if without:
        raise _unlisted(without[0])
    hosts, networks = set[str](), set[Network]()
    for rule in (*policy.rules, *rules):
        for pattern in rule.destination.allow if rule.inspected else ():
            if pattern.kind == "any":  # the format refuses it: whatever brings it here, no certificate follows from it
                raise _unlisted(pattern.text)
            _add(pattern, hosts, networks)
    found = _fewest(hosts, networks)
    if len(found) > MOST:
        message = f"the policy names {len(found)} hosts, and a certificate holds {MOST} at most"
        raise StockadeError(message, hint="`names` under `ca` of the settings says what it may be for: example.com", code="ca_names")
    return found


def _unlisted(said: str) -> StockadeError:
    message = f"with `{said}` nobody knows which names the sandbox will reach, and a certificate for any is none to hand out"
    return StockadeError(message, hint="`names` under `ca` of the settings says what it may be for", code="ca_names")


def read(certificate: x509.Certificate) -> Names:
    """What a certificate of ours is good for."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return Names(everything=True)
    hosts = {each.value for each in found.permitted_subtrees or () if isinstance(each, x509.DNSName)} - {_NONE}
    values = [each.value for each in found.permitted_subtrees or () if isinstance(each, x509.IPAddress)]
    return Names(frozenset(hosts), frozenset(value for value in values if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network)))


def stated(texts: Iterable[str]) -> Names:
    """As the settings say them. Raises ValueError."""
    hosts, networks = set[str](), set[Network]()
    for text in texts:
        if text == ANY:
            return Names(everything=True)
        try:
            pattern = parse_pattern(text)
        except HostError as error:
            raise ValueError(str(error)) from None
        if pattern.port is not None or pattern.kind == "below":
            raise ValueError(f"`{text}`: a name stands for everything below it, on every port")
        _add(pattern, hosts, networks)
    return _fewest(hosts, networks)


def _add(pattern: HostPattern, hosts: set[str], networks: set[Network]) -> None:
    """What a pattern stands for in a certificate: an address is a network of one, a name is itself and all below it."""
    if pattern.network is not None:
        networks.add(pattern.network)
    elif (address := as_address(pattern.value)) is not None:
        networks.add(ipaddress.ip_network(address))
    else:
        hosts.add(pattern.value)


def _fewest(hosts: set[str], networks: set[Network]) -> Names:
    """Without what another one covers."""
    kept = set[str]()
    for host in sorted(hosts, key=lambda name: name.count(".")):
        if not Names(frozenset(kept))._covers(host):
            kept.add(host)
    return Names(frozenset(kept), frozenset(networks))
