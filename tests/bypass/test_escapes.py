"""What surrounds a process: namespaces, other processes, the agent, and what it must not see."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bypass import battery, table
from bypass.battery import Performed
from framework.internet import ECHO
from framework.machine import Machine
from framework.outside import PORT, Outside
from framework.policy import http, whole
from framework.programs import Programs

ROWS = table.battery("escapes")
PARAMETERS = [pytest.param(row, id=row.id, marks=pytest.mark.attack(row.id)) for row in ROWS]
CAP_NET_RAW = 13
pytestmark = pytest.mark.client(battery.PYTHON)


@pytest.fixture(scope="module")
def raised(programs: Programs) -> Iterator[dict[str, str]]:
    """A set-uid program of root's, and one with a file capability."""
    setuid, capable = programs.directory / "set-uid-id", programs.directory / "capable-cat"
    shutil.copy("/usr/bin/id", setuid)
    shutil.copy("/bin/cat", capable)
    setuid.chmod(0o4755)
    os.setxattr(capable, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << CAP_NET_RAW, 0, 0, 0))
    yield {"setuid": str(setuid), "capable": str(capable)}
    setuid.unlink()
    capable.unlink()


@pytest.fixture(scope="module")
def around(machine: Machine, outside: Outside, raised: dict[str, str]) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """A machine with what a sandbox must not see: a home with keys, a control socket, a trail, a policy; and the facts of a room."""
    home = machine.room()
    key = home / "id_ed25519"
    key.write_text("-----BEGIN PRIVATE KEY-----\n")
    control = home / "control.sock"

    def facts(room: Path) -> dict[str, Any]:
        for name in ("audit.jsonl", "policy.yaml"):
            if not (room / name).exists():
                (room / name).touch()
        return raised | {
            "v4": outside.addresses.v4,
            "port": PORT,
            "pid": os.getpid(),
            "seen": "/usr/bin/id",
            "pins": "/run/stockade/bpf",
            "control_socket": str(control),
            "audit": str(room / "audit.jsonl"),
            "policy": str(room / "policy.yaml"),
            "key": str(key),
            "secret_home": str(home),
        }

    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(control))
        listener.listen()
        yield facts


@pytest.fixture(scope="module")
def control(machine: Machine, around: Callable[[Path], dict[str, Any]]) -> Performed:
    room = machine.room()
    # A parent of our own with the secret in its environment is in sight where nothing hides it.
    with subprocess.Popen(["sleep", "60"], env=os.environ | {"SECRET": "open-sesame"}) as bystander:
        try:
            return battery.outside_run(machine, "escapes", around(room), room=room)
        finally:
            bystander.kill()


@pytest.fixture(scope="module")
def held(
    machine: Machine, around: Callable[[Path], dict[str, Any]], raised: dict[str, str], root_inside: str | None
) -> Callable[[str], Performed]:
    runs: dict[str, Performed] = {}

    def run(phase: str) -> Performed:
        if phase == "root" and root_inside:
            pytest.skip(root_inside)
        if phase not in runs:
            room = machine.room()
            process = {"process": {"user": "root"}} if phase == "root" else {}
            policy = whole(http("python3", ECHO, paths=["/open/**"]), allow=["python3", *raised.values()], **process)
            given = around(room)
            (room / "audit.jsonl").unlink()
            env = {"SECRET": "open-sesame"}
            runs[phase] = battery.inside_run(machine, "escapes", given, phase=phase, policy=policy, room=room, env=env)
        return runs[phase]

    return run


@pytest.mark.parametrize("row", PARAMETERS)
def test_it_succeeds_where_nothing_is_enforced(row: table.Row, control: Performed, outside: Outside, record_property: battery.Note) -> None:
    battery.check_control(row, control, outside, record_property)


@pytest.mark.parametrize("phase", ["user", "root"])
@pytest.mark.parametrize("row", PARAMETERS)
def test_it_does_not_succeed_in_a_sandbox(
    row: table.Row, phase: str, held: Callable[[str], Performed], outside: Outside, record_property: battery.Note
) -> None:
    battery.check_held(row, held(phase), outside, record_property)
