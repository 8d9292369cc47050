"""May this process reach that place? Seen from both ends: what the sandbox's process gets, what arrives at which listener, what is said."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel.box import PYTHON, Actor, Box
from kernel.wire import NETWORK, Arrival, Wire
from stockade.kernel import abi, syscall
from stockade.kernel.abi import NAME_LOCALHOST, EventType, Origin, SandboxFlag, Verdict, Why
from stockade.sandbox.cgroup import Cgroup

NAME = 0x1234  # index of a synthetic address
V4, V6 = str(NETWORK.v4.network_address + NAME), str(NETWORK.v6.network_address + NAME)
SPELLINGS = {"v4": V4, "v6": V6, "mapped": f"::ffff:{V4}"}
AGENT4, AGENT6 = str(NETWORK.agent4), str(NETWORK.agent6)

DIAL = """
kept = []

def dial(address, port, kind=socket.SOCK_STREAM, source=None):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    kept.append(s)
    s.settimeout(5)
    if source:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", source))
    s.connect((address, port))
    return s

def peer(s):
    return s.getpeername()[:2]

def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()

def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
"""


@pytest.fixture
def python(governed: Box) -> int:
    return governed.enrol(PYTHON)


@pytest.fixture
def inside(governed: Box, python: int) -> Actor:
    actor = governed.actor()
    actor(DIAL)
    governed.heard()
    return actor


Verdicts = Callable[..., None]


@pytest.fixture
def verdict(governed: Box, python: int) -> Verdicts:
    def write(what: Verdict, port: int = 443, name: int = NAME, identity: int = python, generation: int = 1) -> None:
        governed.maps.set_verdict(governed.number, generation, identity, name, port, what)

    return write


def told(box: Box, kind: EventType = EventType.CONNECT) -> list[tuple[Verdict, Why]]:
    """Everything said since the last time, which must all be of one kind."""
    events = box.heard()
    assert {event.type for event in events} <= {kind}, events
    return [(event.verdict, event.why) for event in events]


# verdicts


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("what", "listener"), [(Verdict.INSPECT, "inspect"), (Verdict.RELAY, "relay")])
def test_a_verdict_leads_to_its_listener_with_the_origin(
    governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, python: int, what: Verdict, listener: str, spelling: str
) -> None:
    verdict(what)
    dialled = SPELLINGS[spelling]
    assert inside(f"peer(dial({dialled!r}, 443))") == (dialled, 443), "a client sees whom it called"
    arrival = wire.arrival()
    assert arrival.listener == listener + ("6" if spelling == "v6" else "4")
    (event,) = governed.heard()
    assert (event.type, event.verdict, event.why) == (EventType.CONNECT, what, Why.POLICY)
    address = ipaddress.ip_address(V6 if spelling == "v6" else V4)
    assert (event.identity, event.name, event.port, event.address, event.protocol) == (python, NAME, 443, address, 6)
    assert event.pid == inside.pid and event.exec_id
    expected = Origin(governed.number, python, event.exec_id, inside.pid, NAME, 1, 443, what, address, event.cookie)
    assert arrival.origin == expected


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    ("name", "port", "mine"),
    [
        pytest.param(NAME, 80, True, id="another port"),
        pytest.param(NAME + 1, 443, True, id="another name"),
        pytest.param(NAME, 443, False, id="another binary"),
    ],
)
def test_silence_is_denial(
    governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, python: int, spelling: str, name: int, port: int, mine: bool
) -> None:
    """A verdict for the same place that differs in one part of its key."""
    verdict(Verdict.INSPECT, port, name, python if mine else python + 1)
    with pytest.raises(PermissionError):
        inside(f"dial({SPELLINGS[spelling]!r}, 443)")
    (event,) = governed.heard()
    assert (event.verdict, event.why, event.name, event.port, event.pid) == (Verdict.DENY, Why.POLICY, NAME, 443, inside.pid)
    assert wire.silent() and governed.maps.usage(governed.number)[1] == 0


def test_an_unknown_verdict_denies(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    for what in (Verdict.DENY, Verdict.LOCAL, Verdict.RESOLVE, 99):
        verdict(what)
        assert inside(f"refused(dial, {V4!r}, 443)") == errno.EPERM
    assert wire.silent()


def test_observe_lets_everything_through_to_a_listener(governed: Box, wire: Wire, inside: Actor) -> None:
    governed.switch(1, SandboxFlag.OBSERVE)
    inside(f"dial({V4!r}, 443), dial({V4!r}, 80), dial({V4!r}, 22), dial('203.0.113.9', 25)\nNone")
    assert sorted(a.listener for a in wire.arrivals()) == ["inspect4", "inspect4", "relay4", "relay4"]
    assert inside(f"refused(dial, {AGENT4!r}, 15001)") == errno.EPERM, "never the agent itself"


LITERALS = [
    ("203.0.113.7/32", "203.0.113.7", "203.0.113.8", "inspect4"),
    ("203.0.113.0/24", "203.0.113.200", "203.0.114.1", "inspect4"),
    ("203.0.113.0/24", "::ffff:203.0.113.200", "::ffff:203.0.114.1", "inspect4"),
    ("2001:db8:7::/48", "2001:db8:7:8::9", "2001:db8:8::9", "inspect6"),
    ("2001:db8::1/128", "2001:db8::1", "2001:db8::2", "inspect6"),
    ("0.0.0.0/0", "203.0.113.7", "2001:db8::1", "inspect4"),
]


@pytest.mark.parametrize(("network", "within", "without", "listener"), LITERALS)
def test_literal_addresses(
    governed: Box, wire: Wire, inside: Actor, python: int, network: str, within: str, without: str, listener: str
) -> None:
    governed.maps.set_literal(governed.number, 1, python, ipaddress.ip_network(network), 443, Verdict.INSPECT)
    assert inside(f"peer(dial({within!r}, 443))") == (within, 443)
    arrival = wire.arrival()
    assert arrival.listener == listener
    origin = arrival.origin
    assert (str(origin.address), origin.name) == (within.removeprefix("::ffff:"), 0)
    assert inside(f"refused(dial, {without!r}, 443)") == inside(f"refused(dial, {within!r}, 80)") == errno.EPERM
    assert wire.silent()


def test_the_narrowest_literal_wins(governed: Box, wire: Wire, inside: Actor, python: int) -> None:
    for network, what in (("203.0.113.0/24", Verdict.RELAY), ("203.0.113.64/26", Verdict.DENY), ("203.0.113.65/32", Verdict.INSPECT)):
        governed.maps.set_literal(governed.number, 1, python, ipaddress.ip_network(network), 443, what)
    inside("dial('203.0.113.1', 443)\ndial('203.0.113.65', 443)\nNone")
    assert sorted(a.listener for a in wire.arrivals()) == ["inspect4", "relay4"]
    assert inside("refused(dial, '203.0.113.66', 443)") == errno.EPERM


def test_a_synthetic_address_is_no_literal(governed: Box, wire: Wire, inside: Actor, python: int) -> None:
    """A rule on 0.0.0.0/0 must not reach what only a name may."""
    for network in ("0.0.0.0/0", "::/0"):
        governed.maps.set_literal(governed.number, 1, python, ipaddress.ip_network(network), 443, Verdict.INSPECT)
    for address in (V4, V6, f"::ffff:{V4}"):
        assert inside(f"refused(dial, {address!r}, 443)") == errno.EPERM
    assert wire.silent()


# inside the sandbox


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"])
def test_a_listener_inside_is_reached_untouched(governed: Box, wire: Wire, inside: Actor, address: str) -> None:
    inside("server = socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True); port = server.getsockname()[1]")
    inside(f"s = dial({address!r}, port); s.sendall(b'hello')")
    assert inside("server.accept()[0].recv(9)") == b"hello"
    (event,) = governed.heard()
    assert (event.verdict, event.why, event.port) == (Verdict.LOCAL, Why.POLICY, inside("port"))
    assert event.address is not None and event.address.is_loopback
    assert wire.silent()


LOCALS = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("address", LOCALS)
def test_a_lent_port_is_the_hosts_for_every_binary(
    governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, address: str, tmp_path: Path
) -> None:
    governed.maps.lend_port(governed.number, 1, 11434)
    assert inside(f"refused(dial, {address!r}, 11434)") == errno.EPERM, "lent, and this binary has no rule on it"
    verdict(Verdict.RELAY, 11434, NAME_LOCALHOST)
    inside(f"dial({address!r}, 11434)\nNone")
    origin = wire.arrival().origin
    assert (origin.name, origin.port, origin.verdict) == (NAME_LOCALHOST, 11434, Verdict.RELAY)
    assert told(governed) == [(Verdict.DENY, Why.POLICY), (Verdict.RELAY, Why.POLICY)]
    assert inside(f"refused(socket.create_server, ({'127.0.0.1'!r}, 11434))") == errno.EADDRINUSE
    assert inside("refused(lambda: socket.create_server(('::', 11434), family=socket.AF_INET6))") == errno.EADDRINUSE
    assert inside("refused(socket.create_server, ('127.0.0.1', 11435))") is None


# the agent's own address


AGENTS = [AGENT4, AGENT6, f"::ffff:{AGENT4}"]


@pytest.mark.parametrize("port", [NETWORK.inspect_port, NETWORK.relay_port, 443, 1])
@pytest.mark.parametrize("address", AGENTS)
def test_nobody_connects_to_the_agent_itself(
    governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, python: int, address: str, port: int
) -> None:
    """Not even with a verdict for the index that its address would be, nor with a literal."""
    verdict(Verdict.INSPECT, port, 1)
    verdict(Verdict.INSPECT, port, 0)
    for network in ("0.0.0.0/0", "::/0"):
        governed.maps.set_literal(governed.number, 1, python, ipaddress.ip_network(network), port, Verdict.INSPECT)
    with pytest.raises(PermissionError):
        inside(f"dial({address!r}, {port})")
    assert told(governed) == [(Verdict.DENY, Why.AGENT_ADDRESS)]
    assert wire.silent()


@pytest.mark.parametrize("port", [NETWORK.inspect_port, NETWORK.relay_port])
@pytest.mark.parametrize("address", LOCALS)
def test_the_agents_ports_are_dead_on_loopback(governed: Box, wire: Wire, inside: Actor, address: str, port: int) -> None:
    """0.0.0.0 must not become the socket's own source address, and nobody may pass for the agent while it is away."""
    assert inside(f"refused(dial, {address!r}, {port})") == errno.EPERM
    assert told(governed) == [(Verdict.DENY, Why.AGENT_ADDRESS)]
    assert inside(f"refused(dial, {address!r}, {port}, socket.SOCK_DGRAM)") == errno.EPERM
    assert told(governed, EventType.DATAGRAM) == [(Verdict.DENY, Why.AGENT_ADDRESS)]
    assert wire.silent()


BINDS = [
    (AGENT4, 8080, errno.EPERM),
    (AGENT6, 8080, errno.EPERM),
    (f"::ffff:{AGENT4}", 8080, errno.EPERM),
    (V4, 0, errno.EPERM),
    (V6, 0, errno.EPERM),
    ("0.0.0.0", 53, errno.EPERM),
    ("0.0.0.0", NETWORK.inspect_port, errno.EPERM),
    ("0.0.0.0", NETWORK.relay_port, errno.EPERM),
    ("::", 53, errno.EPERM),
    ("::", NETWORK.inspect_port, errno.EPERM),
    ("::ffff:0.0.0.0", NETWORK.relay_port, errno.EPERM),
    ("0.0.0.0", 8080, None),
    ("::", 8080, None),
    ("0.0.0.0", 0, None),
    ("127.0.0.1", NETWORK.inspect_port, errno.EPERM),
    ("127.3.2.1", 53, errno.EPERM),
    ("::1", NETWORK.relay_port, errno.EPERM),
    ("127.0.0.1", 8080, None),
    ("::1", 8081, None),
]


@pytest.mark.parametrize("kind", ["STREAM", "DGRAM"])
@pytest.mark.parametrize(("address", "port", "expected"), BINDS)
def test_bind(governed: Box, inside: Actor, kind: str, address: str, port: int, expected: int | None) -> None:
    """What would be taken for the agent, above all while no agent runs, cannot be bound."""
    family = "AF_INET6" if ":" in address else "AF_INET"
    options = "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)"
    inside(f"s = socket.socket(socket.{family}, socket.SOCK_{kind}); {options}")
    assert inside(f"refused(s.bind, ({address!r}, {port}))") == expected
    assert told(governed, EventType.BIND) == ([(Verdict.DENY, Why.BIND)] if expected else [])
    inside("s.close()")


# who


def dialling(address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> Callable[[], None]:
    def attempt() -> None:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as s:
            s.connect((address, port))

    return attempt


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize(("address", "port"), [(V4, 443), (V6, 443), ("127.0.0.1", 9), ("203.0.113.1", 443), ("1.1.1.1", 53)])
def test_a_process_that_never_was_admitted_reaches_nothing(
    governed: Box, wire: Wire, verdict: Verdicts, kind: socket.SocketKind, address: str, port: int
) -> None:
    """In the cgroup, without an exec there: not even loopback, not even a resolver."""
    verdict(Verdict.INSPECT, identity=0)
    assert governed.untagged(dialling(address, port, kind)) == errno.EPERM
    (event,) = governed.heard()
    assert (event.verdict, event.why, event.identity, event.exec_id) == (Verdict.DENY, Why.UNTAGGED, 0, 0)
    assert wire.silent()


def test_a_tag_that_disagrees_with_the_executed_file_is_nobodys(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    """A tag left over from another life of this pid (or PR_SET_MM_EXE_FILE): written here by hand."""
    verdict(Verdict.INSPECT)
    tasks, pid = governed.maps._fd["tasks"], inside.pid.to_bytes(4, "little")
    tag = list(abi.TASK.unpack(syscall.map_lookup(tasks, pid, abi.TASK.size) or b""))
    for field in (4, 5, 6):  # inode, device, generation
        other = list(tag)
        other[field] += 1
        syscall.map_update(tasks, pid, abi.TASK.pack(*other))
        assert inside(f"refused(dial, {V4!r}, 443)") == errno.EPERM
        assert told(governed) == [(Verdict.DENY, Why.EXE_MISMATCH)]
    syscall.map_update(tasks, pid, abi.TASK.pack(*tag))
    inside(f"dial({V4!r}, 443)\nNone")
    assert wire.arrival().origin.verdict is Verdict.INSPECT


def test_a_fork_connects_as_its_parents_binary(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, python: int) -> None:
    verdict(Verdict.INSPECT)
    child = inside(f"pid = os.fork()\nif pid == 0:\n    dial({V4!r}, 443)\n    os._exit(0)\nos.waitpid(pid, 0)\npid")
    origin = wire.arrival().origin
    assert (origin.pid, origin.identity) == (child, python)


def test_a_thread_connects_as_its_process(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    verdict(Verdict.INSPECT)
    inside(f"t = threading.Thread(target=dial, args=({V4!r}, 443)); t.start(); t.join()")
    assert wire.arrival().origin.pid == inside.pid


def test_in_a_child_cgroup_nothing_is_different(governed: Box, wire: Wire, python: int, verdict: Verdicts) -> None:
    verdict(Verdict.INSPECT)
    deep = governed.cgroup.path / "deep"
    deep.mkdir()
    inside = governed.actor(cgroup=deep)
    inside(DIAL)
    assert inside("refused(dial, '203.0.113.1', 443)") == errno.EPERM
    inside(f"dial({V4!r}, 443)\nNone")
    assert wire.arrival().origin.sandbox == governed.number


def test_a_program_without_identity_reaches_only_itself(governed: Box, wire: Wire, verdict: Verdicts) -> None:
    """exec.unlisted: no-network."""
    governed.switch(1, SandboxFlag.UNLISTED_RUNS)
    inside = governed.actor()
    inside(DIAL)
    governed.heard()
    inside("server = socket.create_server(('127.0.0.1', 0)); dial(*server.getsockname())\nNone")
    assert inside(f"refused(dial, {V4!r}, 443)") == errno.EPERM
    assert told(governed) == [(Verdict.LOCAL, Why.POLICY), (Verdict.DENY, Why.POLICY)]
    assert wire.silent()


# ORIGIN


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


# UDP


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_udp_connect_is_silent_and_its_datagram_is_not(
    governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, python: int, spelling: str
) -> None:
    """libc connects to every answer to sort them: no attempt. What is sent on goes nowhere, and is one decision on what was dialled."""
    verdict(Verdict.INSPECT)
    address = SPELLINGS[spelling]
    assert inside(f"s = dial({address!r}, 443, socket.SOCK_DGRAM); peer(s)") == (address, 443)
    assert governed.heard() == []
    dropped = governed.maps.failures()["dropped"]
    assert inside("refused(s.send, b'payload')") == errno.EPERM
    (event,) = governed.heard()
    assert (event.verdict, event.name, event.port, event.pid, event.identity, event.protocol) == (0, NAME, 443, inside.pid, python, 17)
    if spelling == "mapped":  # decided before there is a packet
        assert (event.type, event.why) == (EventType.DATAGRAM, Why.PROTOCOL)
    else:
        assert (event.type, event.why) == (EventType.PACKET, Why.PACKET)
        assert event.tail.endswith(b"payload")
        assert governed.maps.failures()["dropped"] == dropped + 1
    assert wire.silent()


DATAGRAMS = [
    (V4, 443, Why.PROTOCOL),
    (V6, 443, Why.PROTOCOL),
    (f"::ffff:{V4}", 443, Why.PROTOCOL),
    ("203.0.113.1", 443, Why.PROTOCOL),
    ("2001:db8::1", 123, Why.PROTOCOL),
    (AGENT4, 443, Why.AGENT_ADDRESS),
    (AGENT6, NETWORK.inspect_port, Why.AGENT_ADDRESS),
    (f"::ffff:{AGENT4}", NETWORK.relay_port, Why.AGENT_ADDRESS),
]


@pytest.mark.parametrize(("address", "port", "why"), DATAGRAMS)
def test_a_datagram_goes_nowhere(governed: Box, wire: Wire, inside: Actor, address: str, port: int, why: Why) -> None:
    family = "AF_INET6" if ":" in address else "AF_INET"
    inside(f"s = socket.socket(socket.{family}, socket.SOCK_DGRAM)")
    assert inside(f"refused(s.sendto, b'x', ({address!r}, {port}))") == errno.EPERM
    assert inside(f"refused(s.sendmsg, [b'x'], [], 0, ({address!r}, {port}))") == errno.EPERM
    assert told(governed, EventType.DATAGRAM) == [(Verdict.DENY, why)] * 2
    assert wire.silent()


def test_an_unspecified_family_is_v4(governed: Box, wire: Wire, inside: Actor) -> None:
    """udp_sendmsg takes AF_UNSPEC for AF_INET."""
    inside("""
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        where = struct.pack("=HH4s8x", 0, socket.htons(443), socket.inet_aton("203.0.113.1"))
        libc = ctypes.CDLL(None, use_errno=True)
        outcome = libc.sendto(s.fileno(), b"x", 1, 0, where, len(where)), ctypes.get_errno()
    """)
    assert inside("outcome") == (-1, errno.EPERM)
    assert told(governed, EventType.DATAGRAM) == [(Verdict.DENY, Why.PROTOCOL)]


def test_datagrams_inside_the_sandbox_pass(governed: Box, inside: Actor) -> None:
    for family, address in (("AF_INET", "127.0.0.1"), ("AF_INET6", "::1"), ("AF_INET", "0.0.0.0")):
        inside(
            f"a, b = (socket.socket(socket.{family}, socket.SOCK_DGRAM) for _ in 'ab'); a.bind(({address!r}, 0)); port = a.getsockname()[1]"
        )
        assert inside(f"b.sendto(b'hi', ({address!r}, port)); a.recv(9)") == b"hi"
        assert inside(f"b.connect(({address!r}, port)); b.send(b'hi'); a.recv(9)") == b"hi"
    assert governed.heard() == []


def test_fast_open_is_a_connect(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    """sendto(MSG_FASTOPEN) connects without connect()."""
    send = "refused(socket.socket().sendto, b'early', socket.MSG_FASTOPEN, ({!r}, 443))"
    assert inside(send.format("203.0.113.1")) == errno.EPERM
    assert inside(send.format(AGENT4)) == errno.EPERM
    verdict(Verdict.INSPECT)
    inside(f"s = socket.socket(); s.sendto(b'early', socket.MSG_FASTOPEN, ({V4!r}, 443))")
    arrival = wire.arrival()
    assert arrival.origin.name == NAME and arrival.connection.recv(9) == b"early"
    assert told(governed) == [(Verdict.DENY, Why.POLICY), (Verdict.DENY, Why.AGENT_ADDRESS), (Verdict.INSPECT, Why.POLICY)]


# names


RESOLVERS = [("8.8.8.8", "4"), ("2001:4860:4860::8888", "6"), ("::ffff:8.8.8.8", "4"), (AGENT4, "4"), (AGENT6, "6"), (V4, "4")]


@pytest.mark.parametrize("how", ["connect", "sendto"])
@pytest.mark.parametrize(("address", "family"), RESOLVERS)
def test_any_resolver_is_the_agents(governed: Box, wire: Wire, inside: Actor, python: int, how: str, address: str, family: str) -> None:
    """The query arrives, its asker is known by the source port until the socket is closed, and the answer comes from whom was asked."""
    inside(f"s = socket.socket(socket.{'AF_INET6' if ':' in address else 'AF_INET'}, socket.SOCK_DGRAM); s.settimeout(5)")
    inside(f"s.connect(({address!r}, 53)); s.send(b'query')" if how == "connect" else f"s.sendto(b'query', ({address!r}, 53))")
    query, peer = wire.datagram(f"resolve_udp{family}")
    assert query == b"query"
    asker = governed.maps.asker(governed.number, peer[1], int(family))
    assert asker is not None and (asker.identity, asker.pid) == (python, inside.pid)
    getattr(wire.sockets, f"resolve_udp{family}").sendto(b"answer", peer)
    assert inside("data, sender = s.recvfrom(99)[:2]; data, sender[:2]") == (b"answer", (address, 53))
    assert governed.heard() == [], "the query is what is decided, and the resolver records it"
    inside("s.close()")
    assert governed.maps.asker(governed.number, peer[1], int(family)) is None


@pytest.mark.parametrize(("address", "family"), RESOLVERS)
def test_any_resolver_over_tcp_too(governed: Box, wire: Wire, inside: Actor, python: int, address: str, family: str) -> None:
    assert inside(f"peer(dial({address!r}, 53))") == (address, 53)
    arrival = wire.arrival()
    assert arrival.listener == f"resolve_tcp{family}"
    origin = arrival.origin
    assert (origin.verdict, origin.identity, origin.pid) == (Verdict.RESOLVE, python, inside.pid)
    assert governed.heard() == []


def test_an_answer_from_a_peer_inside_keeps_its_sender(inside: Actor) -> None:
    inside("a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in 'ab'); a.bind(('127.0.0.1', 0)); b.bind(('127.0.0.1', 0))")
    inside("b.settimeout(5); b.sendto(b'query', ('8.8.8.8', 53)); a.sendto(b'forged', b.getsockname())")
    assert inside("b.recvfrom(99)[1] == a.getsockname()"), "a neighbour must not look like the resolver"


# sockets


@pytest.mark.parametrize(
    ("make", "kind", "protocol"),
    [
        ("socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP", 3, 1),
        ("socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6", 3, 58),
        ("socket.AF_INET, socket.SOCK_RAW, 255", 3, 255),
        ("socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP", 2, 1),
        ("socket.AF_INET, socket.SOCK_STREAM, 262", 1, 262),
        ("socket.AF_INET6, socket.SOCK_STREAM, 262", 1, 262),
        ("socket.AF_INET, socket.SOCK_DGRAM, 136", 2, 136),
    ],
    ids=["icmp", "icmpv6", "raw", "ping", "mptcp", "mptcp6", "udplite"],
)
def test_only_tcp_and_udp_sockets(governed: Box, inside: Actor, make: str, kind: int, protocol: int) -> None:
    """Root in the sandbox, and still: what is neither TCP nor UDP meets no connect hook, or hides one connection in another."""
    inside("open('/proc/sys/net/ipv4/ping_group_range', 'w').write('0 0')")  # of this namespace: who may ping without a raw socket
    error = inside(f"refused(socket.socket, {make})")
    if error == errno.EPROTONOSUPPORT:
        pytest.skip("this kernel has no such socket")
    assert error == errno.EPERM
    (event,) = governed.heard()
    assert (event.type, event.verdict, event.why) == (EventType.SOCKET, Verdict.DENY, Why.PROTOCOL)
    assert (event.port, event.protocol) == (kind, protocol)


@pytest.mark.parametrize(
    "make", ["AF_INET, socket.SOCK_STREAM", "AF_INET6, socket.SOCK_STREAM, 6", "AF_INET, socket.SOCK_DGRAM, 17", "AF_UNIX"]
)
def test_ordinary_sockets_pass(governed: Box, inside: Actor, make: str) -> None:
    assert inside(f"refused(socket.socket, socket.{make})") is None
    assert governed.heard() == []


# generations


def test_a_generation_is_switched_at_the_next_connect(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    verdict(Verdict.INSPECT, generation=1)
    verdict(Verdict.RELAY, generation=2)
    inside(f"dial({V4!r}, 443)\nNone")
    governed.switch(2)
    inside(f"dial({V4!r}, 443)\nNone")
    governed.switch(3)
    assert inside(f"refused(dial, {V4!r}, 443)") == errno.EPERM
    assert [(event.verdict, event.generation) for event in governed.heard()] == [
        (Verdict.INSPECT, 1),
        (Verdict.RELAY, 2),
        (Verdict.DENY, 3),
    ]
    assert sorted((a.listener, a.origin.generation) for a in wire.arrivals()) == [("inspect4", 1), ("relay4", 2)]


def test_forgetting_deletes_the_other_generations_of_one_sandbox(
    governed: Box, lenient: Box, wire: Wire, inside: Actor, python: int
) -> None:
    """In all three maps; what is in force, and what is another's, stays."""
    maps, networks = governed.maps, [ipaddress.ip_network("203.0.113.0/24"), ipaddress.ip_network("2001:db8::/32")]
    for box in (governed, lenient):
        for generation in (1, 2):
            for name in range(300, 340):
                maps.set_verdict(box.number, generation, python, name, 443, Verdict.INSPECT)
            for network in networks:
                maps.set_literal(box.number, generation, python, network, 443, Verdict.INSPECT)
            maps.lend_port(box.number, generation, 11434)

    def held() -> dict[str, dict[tuple[int, int], int]]:
        counts: dict[str, dict[tuple[int, int], int]] = {}
        for name, layout, at in (("verdicts", abi.VERDICT_KEY, 0), ("literals", abi.LITERAL_KEY, 1), ("services", abi.SERVICE_KEY, 0)):
            counts[name] = {}
            key = None
            while (key := syscall.map_next_key(maps._fd[name], key, layout.size)) is not None:
                which = layout.unpack(key)[at : at + 2]
                if which[0] in (governed.number, lenient.number):
                    counts[name][which] = counts[name].get(which, 0) + 1
        return counts

    both = {(box.number, generation) for box in (governed, lenient) for generation in (1, 2)}
    assert {name: set(found) for name, found in held().items()} == dict.fromkeys(("verdicts", "literals", "services"), both)
    maps.forget_generations(governed.number, but=2)
    assert held() == {
        name: dict.fromkeys(both - {(governed.number, 1)}, count) for name, count in (("verdicts", 40), ("literals", 2), ("services", 1))
    }
    assert inside("refused(dial, '203.0.113.1', 443)") == errno.EPERM, "generation 1 is still in force, and empty"
    governed.switch(2)
    inside("dial('203.0.113.1', 443)\nNone")
    assert wire.arrival().origin.generation == 2
    maps.forget_generations(lenient.number, but=2)
