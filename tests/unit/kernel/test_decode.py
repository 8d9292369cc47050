"""Bytes from the kernel become values or ValueError, whatever they are; and what abi.py tells the compiler."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.kernel.abi import Event, EventType, FileFacts, Network, Origin, Verdict, Why, address_of
from stockade.kernel.events import explain_packet

V4, V6 = ipaddress.IPv4Network("198.18.0.0/15"), ipaddress.IPv6Network("fd57:a11d::/64")


@given(st.binary(max_size=600))
def test_any_bytes_are_an_event_or_a_value_error(data: bytes) -> None:
    try:
        event = Event.decode(data)
    except ValueError:
        return
    assert len(event.tail) <= max(0, len(data) - Event.LAYOUT.size)


@given(
    st.binary(min_size=Event.LAYOUT.size - 4, max_size=600),
    st.sampled_from([*EventType]),
    st.sampled_from([*Verdict]),
    st.sampled_from([*Why]),
)
def test_any_event_of_known_kinds_decodes(data: bytes, kind: int, verdict: int, why: int) -> None:
    """Whatever the sandbox chose of it: paths, packets, ports. The size is not trusted."""
    data = bytes((kind, verdict, why)) + data[3:].ljust(Event.LAYOUT.size - 3, b"\xff")
    event = Event.decode(data)
    assert (event.type, event.verdict, event.why) == (kind, verdict, why)
    assert data.startswith(event.tail, Event.LAYOUT.size)
    assert "=" not in event.variable and "\0" not in event.variable


@pytest.mark.parametrize(("at", "value"), [(0, 0), (0, len(EventType) + 1), (0, 255), (1, len(Verdict)), (2, len(Why))])
def test_an_unknown_enumerator_is_a_value_error(at: int, value: int) -> None:
    data = bytearray(Event.LAYOUT.size)
    data[0] = 1
    Event.decode(bytes(data))
    data[at] = value
    with pytest.raises(ValueError, match=str(value)):
        Event.decode(bytes(data))


@pytest.mark.parametrize("size", [0, 1, Event.LAYOUT.size - 1])
def test_a_short_event_is_a_value_error(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        Event.decode(b"\1" * size)


@given(st.binary(max_size=120))
def test_any_bytes_are_an_origin_or_a_value_error(data: bytes) -> None:
    try:
        Origin.decode(data)
    except ValueError:
        return
    assert len(data) == Origin.LAYOUT.size


@given(st.binary(min_size=FileFacts.LAYOUT.size, max_size=FileFacts.LAYOUT.size))
def test_file_facts_keep_every_bit(data: bytes) -> None:
    facts = FileFacts.decode(data)
    fields = (facts.ino, facts.dev, facts.generation, facts.size, facts.ctime_sec, facts.ctime_nsec, facts.nlink)
    assert FileFacts.LAYOUT.pack(*fields) == data


@pytest.mark.parametrize(
    ("family", "raw", "expected"),
    [
        (4, bytes([192, 0, 2, 1]) + bytes(12), "192.0.2.1"),
        (4, bytes([192, 0, 2, 1]) + b"\xff" * 12, "192.0.2.1"),
        (6, bytes.fromhex("fd57a11d") + bytes(11) + b"\1", "fd57:a11d::1"),
        (0, bytes(16), None),
        (10, b"\xff" * 16, None),
    ],
)
def test_addresses(family: int, raw: bytes, expected: str | None) -> None:
    address = address_of(family, raw)
    assert expected == (str(address) if address else None)


@given(st.binary(max_size=200))
def test_any_packet_is_one_line(data: bytes) -> None:
    assert "\n" not in explain_packet(data)


# what the programs are compiled with


def test_the_defaults_of_the_network() -> None:
    defines = Network().defines()
    assert defines == {
        "AGENT_V4": 0xC6120001,
        "SYNTHETIC_V4": 0xC6120000,
        "SYNTHETIC_V4_MASK": 0xFFFE0000,
        "SYNTHETIC_V6_0": 0xFD57A11D,
        "SYNTHETIC_V6_1": 0,
        "INSPECT_PORT": 15001,
        "RELAY_PORT": 15002,
        "ORIGIN_OPTION": 0x57AD,
        "SPEAKER_OPTION": 0x57AE,
        "NAME_LOCALHOST": 1,
        "NR_CPUS": os.sysconf("SC_NPROCESSORS_CONF"),
    }


def test_every_cpu_that_may_ever_run_has_exec_ids_of_its_own() -> None:
    """exec id = count * NR_CPUS + cpu: with the CPUs that happen to be online, a sparse or hot-plugged one would share another's."""
    highest = int(Path("/sys/devices/system/cpu/possible").read_text().strip().replace(",", "-").rpartition("-")[2])
    assert Network().defines()["NR_CPUS"] > highest


@given(
    st.integers(0, 2**32 - 1),
    st.integers(8, 24),
    st.integers(0, 2**64 - 1),
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.integers(2, 255),
)
def test_any_network_is_what_the_programs_compute_with(base: int, length: int, high: int, inspect: int, relay: int, index: int) -> None:
    """place4 and place6, in Python: an address is in the range exactly when its prefix says so, and its index is its distance."""
    v4 = ipaddress.IPv4Network((base, length), strict=False)
    v6 = ipaddress.IPv6Network((high << 64, 64))
    defines = Network(v4, v6, inspect, relay).defines()
    assert all(0 <= value < 2**32 for value in defines.values())
    inside = int(v4.network_address) + index
    assert inside & defines["SYNTHETIC_V4_MASK"] == defines["SYNTHETIC_V4"] and inside - defines["SYNTHETIC_V4"] == index
    assert (defines["SYNTHETIC_V6_0"] << 32 | defines["SYNTHETIC_V6_1"]) == high
    assert defines["AGENT_V4"] == int(v4[1]) and (defines["INSPECT_PORT"], defines["RELAY_PORT"]) == (inspect, relay)
