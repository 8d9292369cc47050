"""Inbound ports: what the documents write, as one entry for each port, and where it is at odds with the rules. Opens nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from stockade.policy.format.document import Findings, Listing, Node, Place, Scalar
from stockade.policy.format.document import Mapping as Keys
from stockade.policy.hosts import LOCALHOST, Network
from stockade.policy.model import Inbound, Rule
from stockade.policy.neighbour import PREFIX, Neighbour
from stockade.policy.rego import Rego


@dataclass(frozen=True, slots=True)
class Written:
    """One port as the documents have it. sources: each with the place that named it first."""

    place: Place
    sources: dict[Network | Neighbour, Place] = field(default_factory=dict)


Stated = Mapping[int, Written]  # by port


def parse_inbound(entries: Iterable[Node], findings: Findings) -> Stated:
    """entries: `inbound` of every document, as the schema has read it. A port that is stated twice is open to both lists."""
    found: dict[int, Written] = {}
    for entry in entries:
        keys = {key.text: value for key, value in entry} if isinstance(entry, Keys) else {}
        port, sources = keys.get("port"), keys.get("from")
        if not isinstance(port, Scalar) or not isinstance(sources, Listing):
            continue  # said already
        here = found.setdefault(int(port.text), Written(port.place)).sources
        for source, place in _sources(sources, findings):
            here.setdefault(source, place)
    return found


def inbound_of(stated: Stated) -> tuple[Inbound, ...]:
    return tuple(Inbound(port, tuple(stated[port].sources)) for port in sorted(stated))


def places_of(stated: Stated) -> dict[str, Place]:
    """Where each is written: a port by its number, a source by number and source."""
    ports = {str(port): written.place for port, written in stated.items()}
    return ports | {f"{port} {source}": place for port, written in stated.items() for source, place in written.sources.items()}


def examine_inbound(stated: Stated, rules: Iterable[Rule], rego: Rego | None, findings: Findings) -> None:
    """A port that `localhost` lends to a service of the host cannot be bound inside: nobody there could answer who comes in."""
    lent = {port: f"rule `{rule.name}`" for rule in rules for port in _lent(rule)}
    if rego is not None:
        lent |= {scope.port: "Rego" for scope in rego.scopes if scope.host == LOCALHOST and scope.port}
    for port in sorted(lent.keys() & stated.keys()):
        message = f"{lent[port]} lends port {port} of the host's localhost to the sandbox: nothing inside can listen on it"
        findings.add(stated[port].place, "contradiction", message, accepted="another port for one of the two")


def _lent(rule: Rule) -> Iterator[int]:
    for pattern in rule.destination.allow:
        if pattern.value == LOCALHOST:
            yield from rule.ports_for(pattern)


def _sources(sources: Listing, findings: Findings) -> Iterator[tuple[Network | Neighbour, Place]]:
    for entry in sources.items:
        if not isinstance(entry, Scalar):
            continue
        if entry.text.startswith(PREFIX):
            try:
                yield Neighbour.parse(entry.text), entry.place
            except ValueError as error:
                findings.add(entry.place, "bad_sandbox", str(error), accepted="sandbox:db, as it was called with --name")
            continue
        try:
            network = ipaddress.ip_network(entry.text)
        except ValueError as error:
            message = f"`{entry.text}` is no network: {error}"
            findings.add(entry.place, "bad_network", message, accepted="10.1.2.0/24, fd00:1::/64, 10.1.2.3, sandbox:NAME")
            continue
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
            message = f"`{entry.text}` holds IPv4 in IPv6's spelling, in which nobody comes"
            findings.add(entry.place, "bad_network", message, accepted="10.1.2.0/24")
            continue
        yield network, entry.place
