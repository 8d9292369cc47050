"""May this process reach that place? Seen from both ends: what the sandbox's process gets, what arrives at which listener, what is said."""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.box import PYTHON, RUNS, Actor, Box
from kernel.dial import AGENT4, AGENT6, DIAL, NAME, SPELLINGS, V4, V6, Verdicts, told
from kernel.wire import NETWORK, Wire
from stockade.kernel import abi, syscall
from stockade.kernel.abi import NAME_LOCALHOST, BinaryFlag, EventType, Origin, SandboxFlag, Verdict, Why

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


def test_a_process_with_loader_variables_gets_nothing_of_what_its_binary_is_given_later(
    governed: Box, wire: Wire, python: int, verdict: Verdicts
) -> None:
    """It was started when its binary had no network rules, so it was let run. Its children by fork are like it; its next exec is judged."""
    governed.maps.refuse_variable(governed.number, "LD_PRELOAD")
    clean, foreign = governed.actor(), governed.actor(env={"LD_PRELOAD": ""})
    for actor in (clean, foreign):
        actor(DIAL)
    governed.heard()
    verdict(Verdict.INSPECT, generation=2)
    governed.enrol(PYTHON, RUNS | BinaryFlag.NETWORK, identity=python)
    governed.switch(2)
    assert clean(f"peer(dial({V4!r}, 443))") == (V4, 443)
    assert foreign(f"refused(dial, {V4!r}, 443)") == errno.EPERM
    assert (
        foreign(f"""
        if os.fork() == 0:
            os._exit(refused(dial, {V4!r}, 443) or 0)
        os.waitstatus_to_exitcode(os.wait()[1])
    """)
        == errno.EPERM
    )
    events = governed.heard(EventType.CONNECT)
    assert [(event.identity, event.verdict) for event in events] == [(python, Verdict.INSPECT), (0, Verdict.DENY), (0, Verdict.DENY)]
    again = f"os.spawnve(os.P_WAIT, {PYTHON!r}, [{PYTHON!r}, '-ISc', ''], {{}})"
    assert foreign(again.replace("{}", "dict(LD_PRELOAD='')")) == -signal.SIGKILL, "from now on it is refused"
    assert foreign(again) == 0


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
