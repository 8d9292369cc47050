"""Addresses and CIDRs of a policy cut into networks: each address in one of them, with the ports of all that opens it."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from stockade.policy.format.document import NOWHERE
from stockade.policy.hosts import parse_pattern
from stockade.policy.literals import disjoint
from stockade.policy.model import Destination, Names, Rule
from unit.policy.test_matching_properties import lines_run


def rule(allow: list[str], deny: list[str], ports: tuple[int, ...]) -> Rule:
    destination = Destination(tuple(map(parse_pattern, allow)), tuple(map(parse_pattern, deny)))
    return Rule("r", Names(("curl",)), destination, ports, tls="passthrough", place=NOWHERE)


def network(base: str, low: int, bits: int) -> str:
    length = ipaddress.ip_address(base).max_prefixlen - bits
    found = ipaddress.ip_network((int(ipaddress.ip_address(base)) + low, length), strict=False)
    return str(found.network_address) if not bits and low % 2 else str(found)


networks = st.builds(network, st.sampled_from(["10.0.0.0", "fd00::", "0.0.0.0", "255.255.255.224"]), st.integers(0, 31), st.integers(0, 5))
rules = st.builds(
    rule, st.lists(networks, min_size=1, max_size=4), st.lists(networks, max_size=4), st.sampled_from([(443,), (80, 443), (22,)])
)


@given(st.lists(rules, min_size=1, max_size=4))
def test_each_address_is_in_one_network_with_its_ports_and_no_border_inside(given: list[Rule]) -> None:
    found = disjoint(given)
    opened = [(ipaddress.ip_network(item.text), each.ports) for each in given for item in each.destination.allow]
    closed = [ipaddress.ip_network(item.text) for each in given for item in each.destination.deny]
    borders = {*closed, *(cut for cut, _ in opened)}
    for address in {address for cut in borders for address in cut}:
        holding = [(piece, ports) for piece, ports in found if address in piece]
        ports = {port for cut, own in opened if address in cut for port in own}
        assert [held for _, held in holding] == ([tuple(sorted(ports))] if ports else [])
        for piece, _ in holding:
            assert all(piece.version != cut.version or address in cut or not cut.overlaps(piece) for cut in borders)
            assert all(cut.prefixlen <= piece.prefixlen for cut in borders if address in cut)
    assert list(found) == list(dict.fromkeys(found))


def test_a_list_of_denied_addresses_that_is_twice_as_long_costs_twice_as_much() -> None:
    def work(count: int) -> int:
        denied = [str(ipaddress.ip_address("10.0.0.7") + number * 251) for number in range(count)]
        listed = [rule(["10.0.0.0/8"], denied, (443,))]
        return lines_run(lambda: disjoint(listed))

    assert work(200) <= 2.2 * work(100)
