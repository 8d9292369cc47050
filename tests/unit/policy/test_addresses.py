"""The table of refused ranges, row by row: first and last address of each, and their neighbours where these are public."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest

from stockade.policy import Policy, refused_range
from stockade.policy.addresses import RANGES, Range, range_of
from stockade.types import Binary

Read = Callable[[str], Policy]

POLICY = """\
    - name: web
      binary: {allow: [curl]}
      destination: {allow: [named.example.com, "*.wild.example.com", localhost, 10.9.0.0/16]}
      method: {allow: [GET]}
      path: {allow: [/**]}
    - name: inside
      binary: {allow: [curl]}
      destination: {allow: ["*.corp.example.com", pinned.example.com], addresses: [10.1.0.0/16, fd00:1::/64]}
      method: {allow: [GET]}
      path: {allow: [/**]}
    - name: barred
      binary: {allow: [wget]}
      destination: {allow: [named.example.com], deny: [203.0.113.0/24]}
      method: {allow: [GET]}
      path: {allow: [/**]}
"""


@pytest.mark.parametrize("row", RANGES, ids=str)
def test_every_row_refuses_its_first_and_last_address(policy: Read, row: Range) -> None:
    for address in (row.network[0], row.network[-1]):
        assert refused_range(address, "www.wild.example.com", policy(POLICY), 443), address
        if not row.private:
            assert refused_range(address, "named.example.com", policy(POLICY), 443), address


def test_the_rows_are_the_ranges_of_the_design() -> None:
    assert [str(row) for row in RANGES if not row.private] == [
        "metadata 169.254.169.254",
        "metadata 168.63.129.16",
        "metadata 100.100.100.200",
        "metadata 192.0.0.192",
        "metadata fd00:ec2::254",
        "metadata fd00:ec2::23",
        "metadata fd20:ce::254",
        "metadata fd00:c1::a9fe:a9fe",
        "metadata fd00:42::42",
        "agent 198.18.0.0/15",
        "agent fd57:a11d::/64",
        "unspecified 0.0.0.0",
        "this network 0.0.0.0/8",
        "loopback 127.0.0.0/8",
        "link-local 169.254.0.0/16",
        "protocol assignments 192.0.0.0/24",
        "6to4 relay 192.88.99.0/24",
        "multicast 224.0.0.0/4",
        "broadcast 255.255.255.255",
        "reserved 240.0.0.0/4",
        "unspecified ::",
        "loopback ::1",
        "link-local fe80::/10",
        "site-local fec0::/10",
        "multicast ff00::/8",
        "discard 100::/64",
    ]
    assert [str(row.network) for row in RANGES if row.private] == [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
    ]


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.2.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.100.1",
        "223.255.255.255",
        "2606:4700::1",
        "2001:db8::1",
        "3fff::1",
        "64:ff9b::808:808",
        "64:ff9b:1::808:808",
        "64:ff9b:1:808:8:800::",
        "2002:808:808::1",
        "::ffff:8.8.8.8",
    ],
)
def test_public_and_documentation_addresses_may_be_dialled(policy: Read, address: str) -> None:
    assert refused_range(ipaddress.ip_address(address), "www.wild.example.com", policy(POLICY), 443) is None


@pytest.mark.parametrize(
    ("address", "range_"),
    [
        ("::ffff:127.0.0.1", "loopback 127.0.0.0/8"),
        ("::ffff:169.254.169.254", "metadata 169.254.169.254"),
        ("::ffff:0:7f00:1", "loopback 127.0.0.0/8"),
        ("::127.0.0.1", "loopback 127.0.0.0/8"),
        ("2002:7f00:1::1", "loopback 127.0.0.0/8"),
        ("2002:a9fe:a9fe::", "metadata 169.254.169.254"),
        ("64:ff9b::7f00:1", "loopback 127.0.0.0/8"),
        ("64:ff9b:1::a9fe:a9fe", "metadata 169.254.169.254"),
        ("64:ff9b:1:a9fe:a9:fe00::", "metadata 169.254.169.254"),  # behind /48
        ("64:ff9b:1:7f:0:1::", "loopback 127.0.0.0/8"),  # behind /56: 127 · 0 0 1, around the ninth octet
        ("64:ff9b:1:0:7f:0:100::", "loopback 127.0.0.0/8"),  # behind /64
        ("2001:0:7f00:1::", "loopback 127.0.0.0/8"),  # Teredo's server
        ("2001:0:808:808::80ff:fffe", "loopback 127.0.0.0/8"),  # Teredo's client, inverted
        ("2606:4700::5efe:7f00:1", "loopback 127.0.0.0/8"),  # ISATAP
        ("2606:4700::200:5efe:c612:1", "agent 198.18.0.0/15"),
        ("64:ff9b::a00:1", "private 10.0.0.0/8"),
    ],
)
def test_an_embedded_address_counts_as_itself(policy: Read, address: str, range_: str) -> None:
    assert refused_range(ipaddress.ip_address(address), "www.wild.example.com", policy(POLICY), 443) == range_


@pytest.mark.parametrize(
    ("host", "address", "port", "refused"),
    [
        ("named.example.com", "10.0.0.1", 443, None),
        ("named.example.com", "fd00::1", 443, None),
        ("named.example.com", "100.64.0.1", 443, None),
        ("named.example.com", "10.0.0.1", None, None),
        ("named.example.com", "10.0.0.1", 8443, "private 10.0.0.0/8"),
        ("named.example.com", "::ffff:10.0.0.1", 443, None),
        ("named.example.com", "100.100.100.200", 443, "metadata 100.100.100.200"),
        ("named.example.com", "fd00:ec2::254", 443, "metadata fd00:ec2::254"),
        ("named.example.com", "fd57:a11d::5", 443, "agent fd57:a11d::/64"),
        ("named.example.com", "127.0.0.1", 443, "loopback 127.0.0.0/8"),
        ("named.example.com", "203.0.113.7", 443, "denied 203.0.113.0/24"),
        ("www.wild.example.com", "10.0.0.1", 443, "private 10.0.0.0/8"),
        ("www.corp.example.com", "10.1.2.3", 443, None),
        ("www.corp.example.com", "10.2.2.3", 443, "private 10.0.0.0/8"),
        ("www.corp.example.com", "fd00:1::7", 443, None),
        ("pinned.example.com", "10.1.2.3", 443, None),
        ("pinned.example.com", "10.2.2.3", 443, "private 10.0.0.0/8"),
        ("pinned.example.com", "198.51.100.7", 443, "outside `addresses:`"),
        ("www.corp.example.com", "2606:4700::1", 443, "outside `addresses:`"),
        ("www.corp.example.com", "::ffff:10.1.2.3", 443, None),
        ("10.9.1.1", "10.9.1.1", 443, None),
        ("10.8.1.1", "10.8.1.1", 443, "private 10.0.0.0/8"),
        ("unnamed.example.com", "10.9.1.1", 443, "private 10.0.0.0/8"),
        ("localhost", "127.0.0.1", 11434, None),
        ("localhost", "::1", 8000, None),
        ("localhost", "127.0.0.1", 22, "loopback 127.0.0.0/8"),
        ("localhost", "10.0.0.1", 22, "private 10.0.0.0/8"),
    ],
)
def test_who_may_lead_to_a_private_address(policy: Read, host: str, address: str, port: int | None, refused: str | None) -> None:
    assert refused_range(ipaddress.ip_address(address), host, policy(POLICY), port) == refused


def test_only_the_rules_of_the_binary_that_asks_count(policy: Read) -> None:
    curl, wget = Binary.named("curl"), Binary.named("wget")
    barred, private = ipaddress.ip_address("203.0.113.7"), ipaddress.ip_address("10.1.2.3")
    assert refused_range(barred, "named.example.com", policy(POLICY), 443, curl) is None
    assert refused_range(barred, "named.example.com", policy(POLICY), 443, wget) == "denied 203.0.113.0/24"
    assert refused_range(private, "www.corp.example.com", policy(POLICY), 443, curl) is None
    assert refused_range(private, "www.corp.example.com", policy(POLICY), 443, wget) == "private 10.0.0.0/8"


def test_the_narrow_rows_stand_before_the_wide_ones() -> None:
    for row in RANGES:
        assert range_of(row.network[0]) is row or row.network[0] == ipaddress.ip_address("0.0.0.0")
