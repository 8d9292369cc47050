"""What is said over a connection that is allowed: by hand, over plain HTTP and TLS, inspected and relayed."""

from __future__ import annotations

from typing import Any

import pytest

from bypass import battery, table
from bypass.battery import Performed
from framework.internet import ECHO, H1, OTHER
from framework.machine import Machine
from framework.outside import Outside
from framework.policy import http, relay, whole

ROWS = table.battery("wire")
PARAMETERS = [pytest.param(row, id=row.id, marks=pytest.mark.attack(row.id)) for row in ROWS]
FACTS = {"echo": ECHO, "other": OTHER, "passthrough": H1}
pytestmark = pytest.mark.client(battery.PYTHON)


@pytest.fixture(scope="module")
def control(machine: Machine) -> Performed:
    return battery.outside_run(machine, "wire", FACTS, room=machine.room())


@pytest.fixture(scope="module")
def held(machine: Machine) -> Performed:
    inspected: dict[str, Any] = http("python3", ECHO, methods=["GET", "POST"], paths=["/open/**"], port=[80, 443])
    inspected["path"]["deny"] = ["/open/closed/*"]
    policy = whole(inspected, relay("python3", H1, tls="passthrough"), allow=["python3"])
    return battery.inside_run(machine, "wire", FACTS, phase="user", policy=policy, room=machine.room())


@pytest.mark.parametrize("row", PARAMETERS)
def test_it_arrives_where_nothing_is_enforced(row: table.Row, control: Performed, outside: Outside, record_property: battery.Note) -> None:
    battery.check_control(row, control, outside, record_property)


@pytest.mark.parametrize("row", PARAMETERS)
def test_it_does_not_arrive_from_a_sandbox(row: table.Row, held: Performed, outside: Outside, record_property: battery.Note) -> None:
    battery.check_held(row, held, outside, record_property)
