"""An address is a name, one name, for ever."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest

from stockade.dns import QuotaExceeded, SyntheticTable


def test_both_families_share_an_index() -> None:
    table = SyntheticTable()
    assert table.index_of("a.example") is None
    index = table.allocate("a.example")
    assert (index, table.index_of("a.example"), table.allocate("a.example")) == (256, 256, 256)
    assert table.name_of(index) == "a.example"
    assert table.addresses(index) == (IPv4Address("198.18.1.0"), IPv6Address("fd57:a11d::100"))
    assert table.addresses(table.allocate("b.example"))[0] == IPv4Address("198.18.1.1")


@pytest.mark.parametrize(
    ("address", "index"),
    [
        ("198.18.0.1", 1),
        ("fd57:a11d::1", 1),
        ("198.18.1.0", 256),
        ("fd57:a11d::100", 256),
        ("::ffff:198.18.1.0", 256),
        ("198.19.255.255", 131071),
        ("fd57:a11d::ffff:ffff", 0xFFFFFFFF),
        ("198.17.255.255", None),
        ("198.20.0.0", None),
        ("fd57:a11d:0:1::", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
    ],
)
def test_the_index_at_an_address(address: str, index: int | None) -> None:
    assert SyntheticTable().index_at(ip_address(address)) == index


def test_the_quota_holds_and_what_is_known_stays_known() -> None:
    table = SyntheticTable(quota=2)
    table.allocate("a"), table.allocate("b")
    with pytest.raises(QuotaExceeded):
        table.allocate("c")
    assert table.allocate("a") == 256 and len(table) == 2


def test_the_ranges_bound_the_quota() -> None:
    assert SyntheticTable(IPv4Network("10.9.0.0/23"), quota=10_000).quota == 255
    with pytest.raises(ValueError, match="no room"):
        SyntheticTable(v6=IPv6Network("fd00::/120"))


def test_a_restored_table_goes_on_where_the_dead_one_stopped() -> None:
    dead = SyntheticTable()
    for name in ("a", "b", "c"):
        dead.allocate(name)
    table = SyntheticTable()
    table.restore(iter(dead))
    assert list(table) == [(256, "a"), (257, "b"), (258, "c")]
    assert table.allocate("d") == 259
    for clash in ((256, "x"), (999, "a"), (1, "x"), (10**9, "x")):
        with pytest.raises(ValueError, match="clashes"):
            table.restore([clash])


def test_threads_never_share_an_index() -> None:
    table = SyntheticTable()
    threads = [threading.Thread(target=lambda: [table.allocate(f"{n}.example") for n in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(index for index, _ in table) == list(range(256, 756))
