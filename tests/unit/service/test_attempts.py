"""From a kernel event to its one record: every kind of event with every why."""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path

import pytest

from stockade.kernel.abi import NAME_LOCALHOST, EventType, Verdict, Why
from stockade.service import attempts
from stockade.service.governed import ANCESTORS, Governed
from stockade.types import FORGOTTEN, Action, Binary, Effect, Level, Outcome, Reason
from unit.service.samples import CURL, NUMBERS, POLICY, event, governed

ALLOW, DENY = Outcome.ALLOW, Outcome.DENY


@pytest.fixture
def box(tmp_path: Path) -> Governed:
    made, _ = governed(tmp_path)
    return made


@pytest.fixture
def observing(tmp_path: Path) -> Governed:
    made, _ = governed(tmp_path, POLICY.replace("name: test", "name: test\nmode: observe"))
    return made


REASONS = {
    Why.UNTAGGED: Reason.IDENTITY_UNKNOWN,
    Why.EXE_MISMATCH: Reason.IDENTITY_MISMATCH,
    Why.AGENT_ADDRESS: Reason.AGENT_ADDRESS,
    Why.PROTOCOL: Reason.PROTOCOL_REFUSED,
    Why.BIND: Reason.BIND_REFUSED,
    Why.UNLISTED: Reason.EXEC_UNLISTED,
    Why.CHANGED: Reason.EXEC_CHANGED,
    Why.ANONYMOUS: Reason.EXEC_ANONYMOUS,
    Why.LOADER_VARIABLE: Reason.LOADER_VARIABLE,
    Why.ENV_UNREADABLE: Reason.ENV_UNREADABLE,
    Why.MAP_FULL: Reason.KERNEL_MAP_FULL,
    Why.PACKET: Reason.PACKET_DROPPED,
    Why.WRITABLE: Reason.MAPPING_WRITABLE,
}
WHO = {Why.UNTAGGED, Why.EXE_MISMATCH}
ACTIONS = {
    EventType.EXEC: Action.EXEC,
    EventType.CONNECT: Action.CONNECT,
    EventType.DATAGRAM: Action.CONNECT,
    EventType.BIND: Action.INBOUND,
    EventType.SOCKET: Action.SYSCALL,
    EventType.PACKET: Action.CONNECT,
    EventType.MAPPING: Action.FILE,
}


def test_the_tables_are_whole() -> None:
    assert set(REASONS) == set(Why) - {Why.POLICY} and set(ACTIONS) | {EventType.DEVICE, EventType.INBOUND} == set(EventType)


@pytest.mark.parametrize(("kind", "why"), list(itertools.product(ACTIONS, REASONS)), ids=lambda value: value.name)
def test_every_refusal_has_its_reason(box: Governed, kind: EventType, why: Why) -> None:
    record = attempts.record_of(event(kind, why=why, identity=0, address=ipaddress.ip_address("203.0.113.9")), box)
    assert (record.action, record.outcome, record.effect, record.reason) == (ACTIONS[kind], DENY, Effect.REFUSE, REASONS[why])
    level = Level.EXEC if kind in (EventType.EXEC, EventType.MAPPING) else Level.BINARY if why in WHO else Level.DESTINATION
    assert (record.level, record.enforced, record.rule) == (level, True, None)
    assert (record.pid, record.exec_id, record.generation) == (4242, 4, 1)


def test_a_device_refusal_says_which_and_what_was_asked(box: Governed) -> None:
    """Nobody is named: the kernel does not say who asked."""
    asked = event(EventType.DEVICE, port=1, name=11, protocol=2 << 8 | 2 | 4, pid=0, exec_id=0, identity=0, generation=0)
    record = attempts.record_of(asked, box)
    assert (record.action, record.outcome, record.effect, record.reason) == (Action.DEVICE, DENY, Effect.REFUSE, Reason.DEVICE_REFUSED)
    assert record.detail == {"device": "char 1:11", "access": ["read", "write"]}
    assert (record.binary, record.pid, record.exec_id, record.enforced) == (None, None, None, True)


# exec


@pytest.mark.parametrize(
    ("mode", "why", "verdict", "expected"),
    [
        ("enforce", Why.POLICY, Verdict.LOCAL, (ALLOW, Effect.PASS, Reason.EXEC_ALLOWED, True)),
        ("observe", Why.POLICY, Verdict.LOCAL, (ALLOW, Effect.PASS, Reason.EXEC_ALLOWED, True)),
        ("enforce", Why.UNLISTED, Verdict.LOCAL, (ALLOW, Effect.PASS, Reason.EXEC_UNLISTED, True)),  # no-network
        ("enforce", Why.UNLISTED, Verdict.DENY, (DENY, Effect.REFUSE, Reason.EXEC_UNLISTED, True)),
        ("observe", Why.UNLISTED, Verdict.DENY, (DENY, Effect.PASS, Reason.EXEC_UNLISTED, False)),
        ("observe", Why.ANONYMOUS, Verdict.DENY, (DENY, Effect.PASS, Reason.EXEC_ANONYMOUS, False)),
        ("observe", Why.MAP_FULL, Verdict.DENY, (DENY, Effect.REFUSE, Reason.KERNEL_MAP_FULL, True)),  # killed in both modes
    ],
)
def test_exec(
    box: Governed, observing: Governed, mode: str, why: Why, verdict: Verdict, expected: tuple[Outcome, Effect, Reason, bool]
) -> None:
    record = attempts.record_of(event(EventType.EXEC, verdict, why), box if mode == "enforce" else observing)
    assert (record.outcome, record.effect, record.reason, record.enforced) == expected
    assert record.binary == CURL and record.destination is None


@pytest.mark.parametrize(
    ("path", "name", "reason"),
    [
        (b"/usr/bin/nc", "nc", Reason.EXEC_DENIED),
        (b"/usr/bin/wget", "wget", Reason.EXEC_UNLISTED),
        (b"./x\n\xff", "x\n\udcff", Reason.EXEC_UNLISTED),
        (b"", "?", Reason.EXEC_UNLISTED),
        (b"/", "/", Reason.EXEC_UNLISTED),
    ],
)
def test_an_unknown_file_is_named_by_its_path_and_matches_no_rule(box: Governed, path: bytes, name: str, reason: Reason) -> None:
    record = attempts.record_of(event(EventType.EXEC, why=Why.UNLISTED, identity=0, tail=path), box)
    assert record.binary is not None and (record.binary.name, record.binary.names) == (name, frozenset())
    assert record.reason is reason


def test_a_binary_that_brought_loader_variables_along_runs_and_has_no_name_for_the_network(box: Governed) -> None:
    """The kernel let it run: it had no network rules. What it is stays on record."""
    came = event(EventType.EXEC, Verdict.LOCAL, Why.LOADER_VARIABLE, variable="LD_PRELOAD", identity=NUMBERS[CURL])
    record = attempts.record_of(came, box)
    assert (record.outcome, record.effect, record.reason) == (Outcome.ALLOW, Effect.PASS, Reason.LOADER_VARIABLE)
    assert record.binary is not None and record.binary.path == CURL.path and record.detail == {"variable": "LD_PRELOAD"}
    box.executed(came.exec_id, attempts.executed_binary(came, box), 0)
    assert box.binary(0, came.exec_id).names == frozenset()


def test_a_loader_variable_is_named(box: Governed) -> None:
    record = attempts.record_of(event(EventType.EXEC, why=Why.LOADER_VARIABLE, variable="LD_PRELOAD"), box)
    assert record.detail == {"variable": "LD_PRELOAD"}


@pytest.mark.parametrize(
    ("verdict", "effect", "enforced"),
    [
        (Verdict.DENY, Effect.REFUSE, True),
        (Verdict.LOCAL, Effect.PASS, False),  # observed; on a noexec mount the kernel says DENY in this mode too
    ],
)
def test_a_mapping_is_what_the_kernel_did_about_it(observing: Governed, verdict: Verdict, effect: Effect, enforced: bool) -> None:
    record = attempts.record_of(event(EventType.MAPPING, verdict, Why.WRITABLE, tail=b"/tmp/lib.so"), observing)
    assert (record.outcome, record.effect, record.enforced, record.binary) == (DENY, effect, enforced, CURL)
    assert record.detail == {"call": "mmap", "path": "/tmp/lib.so"}


def test_ancestry_is_the_chain_of_execs_nearest_first(box: Governed) -> None:
    for exec_id, parent in ((1, 0), (2, 1), (3, 2)):
        box.executed(exec_id, Binary(f"p{exec_id}", frozenset(), f"/p{exec_id}"), parent)
    box.executed(4, CURL, 3)
    assert attempts.record_of(event(EventType.EXEC), box).ancestry == ("/p3", "/p2", "/p1")


def test_ancestry_ends(box: Governed) -> None:
    """A circle cannot come from the kernel, and would not hang the agent."""
    box.executed(4, CURL, 4)
    assert box.ancestry(4) == (FORGOTTEN,)


def test_no_ancestor_is_lost_behind_others(box: Governed) -> None:
    """Whoever is held to a rule for what it descends from could start itself again and again until that is forgotten."""
    box.executed(1, Binary("agent", frozenset(), "/agent"), 0)
    for exec_id in range(2, 500):
        box.executed(exec_id, Binary("env", frozenset(), f"/env{exec_id % 3}"), exec_id - 1)
    assert box.ancestry(499) == ("/env0", "/env2", "/env1", "/agent")
    for exec_id in range(500, 1000):
        box.executed(exec_id, Binary("built", frozenset(), f"/built{exec_id}"), exec_id - 1)
    assert box.ancestry(999)[-1] == "/agent" and len(box.ancestry(999)) == ANCESTORS


# connect


def index(box: Governed, name: str) -> int:
    number = box.table.allocate(name)
    box.publish(number, name)
    return number


CONNECTS = [
    # identity, name, port, verdict → outcome, effect, level, reason, rule
    (1, "api.example.com", 443, Verdict.INSPECT, (ALLOW, Effect.PASS, Level.DESTINATION, Reason.RULE_ALLOW, "web")),
    (2, "git.example.com", 9418, Verdict.RELAY, (ALLOW, Effect.RELAY, Level.DESTINATION, Reason.RULE_ALLOW, "code")),
    (1, "bad.example.com", 443, Verdict.DENY, (DENY, Effect.REFUSE, Level.DESTINATION, Reason.RULE_DENY, "web")),
    (1, "api.example.com", 22, Verdict.DENY, (DENY, Effect.REFUSE, Level.DESTINATION, Reason.NO_RULE, "web")),
    (2, "api.example.com", 443, Verdict.DENY, (DENY, Effect.REFUSE, Level.DESTINATION, Reason.NO_RULE, "code")),
    (3, "api.example.com", 443, Verdict.DENY, (DENY, Effect.REFUSE, Level.BINARY, Reason.NO_RULE, None)),
    (1, "api.example.com", 443, Verdict.DENY, (DENY, Effect.REFUSE, Level.DESTINATION, Reason.KERNEL_MAP_FULL, "web")),
]


@pytest.mark.parametrize(("identity", "name", "port", "verdict", "expected"), CONNECTS)
def test_connect(
    box: Governed, identity: int, name: str, port: int, verdict: Verdict, expected: tuple[Outcome, Effect, Level, Reason, str | None]
) -> None:
    """The last row: the policy allows and the kernel's verdicts do not hold it."""
    address = ipaddress.ip_address("198.18.1.0")
    found = event(EventType.CONNECT, verdict, identity=identity, name=index(box, name), port=port, address=address)
    record = attempts.record_of(found, box)
    assert (record.outcome, record.effect, record.level, record.reason, record.rule) == expected
    assert record.destination is not None
    assert (record.destination.host, record.destination.port, record.destination.address) == (name, port, "198.18.1.0")


def test_a_synthetic_address_that_no_answer_gave(box: Governed) -> None:
    record = attempts.record_of(event(EventType.CONNECT, name=4711, address=ipaddress.ip_address("198.18.18.103")), box)
    assert (record.outcome, record.reason) == (DENY, Reason.UNKNOWN_SYNTHETIC)
    assert record.destination is not None and record.destination.host == "198.18.18.103"


def test_a_listener_inside(box: Governed) -> None:
    record = attempts.record_of(event(EventType.CONNECT, Verdict.LOCAL, address=ipaddress.ip_address("127.0.0.1")), box)
    assert (record.outcome, record.effect, record.reason) == (ALLOW, Effect.PASS, Reason.LOCAL_LISTENER)


def test_the_hosts_services(box: Governed) -> None:
    local = ipaddress.ip_address("::1")
    record = attempts.record_of(event(EventType.CONNECT, Verdict.RELAY, name=NAME_LOCALHOST, port=11434, address=local), box)
    assert (record.outcome, record.rule) == (ALLOW, "model")
    assert record.destination is not None and record.destination.host == "localhost"


def test_observe_lets_through_and_says_so(observing: Governed) -> None:
    found = event(EventType.CONNECT, Verdict.INSPECT, identity=3, name=index(observing, "api.example.com"))
    record = attempts.record_of(found, observing)
    assert (record.outcome, record.effect, record.enforced) == (DENY, Effect.PASS, False)


def test_nobody_is_nobody(box: Governed) -> None:
    """Without an exec id there is no binary, whatever the identity's number says."""
    record = attempts.record_of(event(EventType.CONNECT, why=Why.UNTAGGED, exec_id=0, address=ipaddress.ip_address("1.1.1.1")), box)
    assert record.binary is not None and record.binary.names == frozenset() and record.exec_id is None


def test_a_decision_is_recorded_under_the_generation_that_made_it(box: Governed, tmp_path: Path) -> None:
    from unit.service.samples import policy

    second = policy(tmp_path, POLICY.replace("api.example.com, 203", "203").replace("*.example.com", "*.example.org"), generation=2)
    number = index(box, "api.example.com")
    box.compile(second)
    box.switch(second)
    old = attempts.record_of(event(EventType.CONNECT, Verdict.INSPECT, name=number, generation=1), box)
    new = attempts.record_of(event(EventType.CONNECT, Verdict.DENY, name=number, generation=2), box)
    assert (old.outcome, old.generation, new.outcome, new.generation) == (ALLOW, 1, DENY, 2)
    assert new.reason is Reason.NO_RULE


# the rest


@pytest.mark.parametrize(("number", "name"), [(6, "tcp"), (17, "udp"), (1, "icmp"), (262, "mptcp"), (99, "99")])
def test_protocols_are_named(box: Governed, number: int, name: str) -> None:
    record = attempts.record_of(event(EventType.SOCKET, why=Why.PROTOCOL, protocol=number, port=3), box)
    assert record.detail == {"call": "socket", "type": 3, "protocol": name} and record.destination is None


def test_a_datagram_that_the_last_net_dropped(box: Governed) -> None:
    """To a name that a socket had UDP-connected to, the packet is where it is decided; any other is a packet that no hook had admitted."""
    named = event(EventType.PACKET, why=Why.PACKET, protocol=17, name=index(box, "api.example.com"))
    assert attempts.record_of(named, box).reason is Reason.PROTOCOL_REFUSED
    assert attempts.record_of(event(EventType.PACKET, why=Why.PACKET, protocol=17), box).reason is Reason.PACKET_DROPPED
