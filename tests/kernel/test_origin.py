"""ORIGIN: what the worker learns of a connection it accepted, and that it is never another's."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel.box import PYTHON, Actor, Box
from kernel.dial import DIAL, NAME, SPELLINGS, V4, V6, Verdicts
from kernel.wire import NETWORK, Arrival, Wire
from stockade.kernel import abi, syscall
from stockade.kernel.abi import Origin, Verdict
from stockade.sandbox.cgroup import Cgroup


def test_origin_is_answered_once(wire: Wire, inside: Actor, verdict: Verdicts, governed: Box) -> None:
    verdict(Verdict.INSPECT)
    inside(f"dial({V4!r}, 443)\nNone")
    arrival = wire.arrival()
    assert arrival.origin.name == NAME
    with pytest.raises((OSError, ValueError)):
        _ = arrival.origin


def test_a_buffer_that_is_too_small_gets_nothing_and_takes_nothing(wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    verdict(Verdict.INSPECT)
    inside(f"dial({V4!r}, 443)\nNone")
    arrival = wire.arrival()
    with pytest.raises(OSError):
        arrival.connection.getsockopt(socket.SOL_SOCKET, abi.ORIGIN_OPTION, Origin.LAYOUT.size - 1)
    assert arrival.origin.name == NAME


@pytest.mark.parametrize("spelling", ["v4", "v6"])
def test_so_original_dst_for_a_stock_proxy(wire: Wire, inside: Actor, verdict: Verdicts, spelling: str) -> None:
    verdict(Verdict.INSPECT)
    inside(f"dial({SPELLINGS[spelling]!r}, 443)\nNone")
    connection = wire.arrival().connection
    if spelling == "v4":
        raw = connection.getsockopt(socket.SOL_IP, 80, 16)
        assert (raw[2:4], raw[4:8]) == ((443).to_bytes(2, "big"), socket.inet_pton(socket.AF_INET, V4))
    else:
        raw = connection.getsockopt(socket.IPPROTO_IPV6, 80, 28)
        assert (raw[2:4], raw[8:24]) == ((443).to_bytes(2, "big"), socket.inet_pton(socket.AF_INET6, V6))
    assert Origin.of(connection).name == NAME, "asking for the address does not use it up"


def test_every_connection_has_its_own_origin(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    """Each client writes whom it called; its origin must say the same."""
    for name in range(300, 400):
        verdict(Verdict.INSPECT if name % 2 else Verdict.RELAY, 443, name)
    base = str(NETWORK.v4.network_address).rpartition(".")[0].rpartition(".")[0]
    inside(f"for n in range(300, 400):\n    dial(f'{base}.{{n >> 8}}.{{n & 255}}', 443).sendall(n.to_bytes(2))")
    arrivals = wire.arrivals()
    assert len(arrivals) == 100 == len(governed.heard())
    for arrival in reversed(arrivals):
        said = int.from_bytes(arrival.connection.recv(2))
        assert arrival.origin.name == said and arrival.listener == ("inspect4" if said % 2 else "relay4")
    assert governed.maps.usage(governed.number)[1] == 0


@pytest.mark.parametrize("end", ["reset(s)", "s.close()", "s.shutdown(socket.SHUT_WR)"])
def test_a_client_that_is_gone_is_still_asked_for(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, end: str) -> None:
    """The origin belongs to the accepted socket from the handshake on; nothing stays under the tuple to fill the map."""
    verdict(Verdict.INSPECT)
    inside(f"s = dial({V4!r}, 443); s.sendall(b'request'); {end}")
    assert governed.maps.usage(governed.number)[1] == 0
    assert wire.arrival().origin.name == NAME


def test_a_refused_connection_leaves_no_origin(governed: Box, inside: Actor, verdict: Verdicts, wire: Wire) -> None:
    """No worker listens: the SYN is answered by a reset."""
    verdict(Verdict.INSPECT)
    governed.netns = wire.bare
    lonely = governed.actor()
    lonely(DIAL)
    assert lonely(f"refused(dial, {V4!r}, 443)") == errno.ECONNREFUSED
    assert governed.maps.usage(governed.number)[1] == 0


SOURCE = 40123


@pytest.mark.parametrize("order", ["old first", "new first"])
def test_a_source_port_used_again_does_not_show_anothers_origin(
    governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, order: str
) -> None:
    """The same 4-tuple twice, both waiting in the worker's queue: the first was reset, yet its bytes can still be read."""
    verdict(Verdict.INSPECT, 443, NAME)
    verdict(Verdict.INSPECT, 443, NAME + 1)
    second = str(NETWORK.v4.network_address + NAME + 1)
    inside(f"s = dial({V4!r}, 443, source={SOURCE}); s.sendall(b'first'); reset(s)")
    inside(f"s = dial({second!r}, 443, source={SOURCE}); s.sendall(b'second')")
    old, new = wire.arrivals()
    assert new.connection.getpeername()[1] == SOURCE

    def asked(arrival: Arrival) -> tuple[Any, bytes]:
        return arrival.origin.name, arrival.connection.recv(9)

    answers = {which: asked({"old": old, "new": new}[which]) for which in (("old", "new") if order == "old first" else ("new", "old"))}
    assert answers["new"] == (NAME + 1, b"second")
    assert answers["old"] == (NAME, b"first")


def test_a_port_given_away_while_its_connection_waits_stays_its_owners(wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    """With TCP_MD5SIG set at the end, the client's reset is not believed: its connection waits on, and the port is free for another."""
    verdict(Verdict.INSPECT, 443, NAME)
    verdict(Verdict.INSPECT, 443, NAME + 1)
    second = str(NETWORK.v4.network_address + NAME + 1)
    agent = str(NETWORK.agent4)
    signature = f"struct.pack('HH4s120xBBH4x80s', 2, 0, socket.inet_aton({agent!r}), 0, 0, 4, b'key1'.ljust(80, bytes(1)))"
    inside(f"import struct\ns = dial({V4!r}, 443, source={SOURCE}); s.sendall(b'first')\ns.setsockopt(6, 14, {signature}); reset(s)")
    code = f"n = socket.socket(); n.bind(('0.0.0.0', {SOURCE})); n.setblocking(False); n.connect_ex(({second!r}, 443))"
    inside(code)
    arrival = wire.arrival()
    assert arrival.origin.name == NAME and arrival.connection.recv(9) == b"first"
    inside("n.close()")
    wire.clear()


def test_no_room_for_an_origin_means_no_origin(
    tight: Callable[..., Box], wire: Wire, cgroups: Path, request: pytest.FixtureRequest
) -> None:
    """The worker closes a connection that it can ask nothing about."""
    box = tight(origins=1)
    box.kernel.answer_origins(Cgroup(cgroups / "listeners").path)
    box.netns = wire.netns
    identity = box.enrol(PYTHON)
    box.maps.set_verdict(box.number, 1, identity, NAME, 443, Verdict.INSPECT)
    box.govern()
    inside = box.actor()
    inside(DIAL)
    origins = box.maps._fd["origins"]
    shape = syscall.map_info(origins, "origins")
    syscall.map_update(origins, bytes(shape.key_size), bytes(shape.value_size))
    inside(f"dial({V4!r}, 443)\nNone")
    assert box.maps.failures()["origin"] == 1
    with pytest.raises((OSError, ValueError)):
        _ = wire.arrival().origin
    wire.clear()
