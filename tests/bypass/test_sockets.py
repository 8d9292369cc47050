"""Sockets and the kernel: no call of inside/sockets gets a byte out, as the sandbox's user and as uid 0 inside."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from bypass import battery, table
from bypass.battery import Performed
from framework.internet import ECHO, Internet
from framework.machine import Machine
from framework.outside import CALLED, PORT, Outside
from framework.policy import http, relay, whole
from framework.programs import Programs
from stockade.kernel.abi import Network

ROWS = table.battery("sockets")
SHELL = "/bin/sh"
pytestmark = pytest.mark.client(battery.PYTHON, "gcc")


@pytest.fixture(scope="module")
def facts(internet: Internet, outside: Outside, programs: Programs) -> dict[str, Any]:
    network = Network()
    return {
        "v4": outside.addresses.v4,
        "v6": outside.addresses.v6,
        "link_local": internet.namespace.link_local,
        "device": internet.namespace.device,
        "port": PORT,
        "called": CALLED,
        "echo": ECHO,
        "abstract": outside.abstract,
        "named": outside.named,
        "attack": str(programs.c("attack", "gcc", "-pthread", source="attack")),
        "other": SHELL,
        "speaker": str(programs.c("speaker", "gcc", "-pthread", source="attack")),
        "agent": [str(network.agent4), str(network.agent6)],
        "agent_ports": [network.inspect_port, network.relay_port],
    }


@pytest.fixture(scope="module")
def left_open(outside: Outside) -> Any:
    with socket.create_connection((outside.addresses.v4, PORT)) as connected:
        yield connected


@pytest.fixture(scope="module")
def control(machine: Machine, facts: dict[str, Any], left_open: socket.socket) -> Performed:
    return battery.outside_run(machine, "sockets", facts, room=machine.room(), pass_fds=[left_open.fileno()])


@pytest.fixture(scope="module")
def held(machine: Machine, facts: dict[str, Any], left_open: socket.socket, root_inside: str | None) -> Callable[[str], Performed]:
    runs: dict[str, Performed] = {}

    def run(phase: str) -> Performed:
        if phase == "root" and root_inside:
            pytest.skip(root_inside)
        if phase not in runs:
            rule = http(["python3", facts["attack"]], ECHO, paths=["/open/**"])
            process = {"process": {"user": "root"}} if phase == "root" else {}
            policy = whole(rule, allow=["python3", facts["attack"], facts["speaker"], "sh", "head"], **process)
            runs[phase] = battery.inside_run(
                machine, "sockets", facts, phase=phase, policy=policy, room=machine.room(), pass_fds=[left_open.fileno()]
            )
        return runs[phase]

    return run


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id, marks=pytest.mark.attack(row.id)) for row in ROWS])
def test_it_gets_out_where_nothing_is_enforced(row: table.Row, control: Performed, outside: Outside, record_property: battery.Note) -> None:
    battery.check_control(row, control, outside, record_property)


@pytest.mark.parametrize("phase", ["user", "root"])
@pytest.mark.parametrize("row", [pytest.param(row, id=row.id, marks=pytest.mark.attack(row.id)) for row in ROWS])
def test_it_does_not_get_out_of_a_sandbox(
    row: table.Row, phase: str, held: Callable[[str], Performed], outside: Outside, record_property: battery.Note
) -> None:
    battery.check_held(row, held(phase), outside, record_property)


def test_the_ear_hears_what_a_rule_allows(machine: Machine, facts: dict[str, Any], outside: Outside) -> None:
    """From inside, too: where the policy opens the address, the same attack gets out and is heard."""
    chosen = {"connect-v4", "v4-mapped", "fastopen-connect", "race-sockaddr"}
    policy = whole(
        relay(["python3", facts["attack"]], outside.addresses.v4, protocol="tcp", port=[PORT]),
        http("python3", ECHO, port=[80]),
        allow=["python3", facts["attack"]],
    )
    given = facts | {"left_out": [row.id for row in ROWS if row.id not in chosen]}
    allowed = battery.inside_run(machine, "sockets", given, phase="allowed", policy=policy, room=machine.room())
    assert {row.id for row in ROWS if row.id in chosen and battery.got_out(row, allowed, outside)} == chosen, allowed.outcomes
