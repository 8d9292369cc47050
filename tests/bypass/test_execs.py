"""Who may execute as whom: denied programs in the place of allowed ones, and foreign code in allowed ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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

ROWS = table.battery("execs")
PARAMETERS = [pytest.param(row, id=row.id, marks=pytest.mark.attack(row.id)) for row in ROWS]
OWN = ("linked", "renamed", "overwritten")  # allowed binaries that lie in the workdir
SYSTEM = (
    "curl",
    "node",
    "perl",
    "git",
    "/usr/bin/iconv",
    "bash",
    "python3",
    "/usr/bin/du",
)  # each with a rule: what foreign code would use
PLAIN = ("busybox", "sh", "true")  # may run, and have no rule
# Where writable files may run, the host's own loader may map them too: SECURITY.md says so, and the records say `identity: weak`.
LIFTED = ("curl-engine", "library-in-workdir")
pytestmark = pytest.mark.client(battery.PYTHON, "gcc", "busybox", "node", "perl", "git", "curl", "bash")


@pytest.fixture(scope="module")
def built(programs: Programs) -> dict[str, Any]:
    """fetch is allowed, unlisted is not; both ask for a path over HTTP."""
    return {
        "fetch": str(programs.c("fetch", "gcc")),
        "unlisted": str(programs.c("unlisted", "gcc")),
        "attack": str(programs.c("attack", "gcc", "-pthread", source="attack")),
        "evil": str(programs.c("evil.so", "gcc", "-shared", "-fPIC", source="evil")),
        "loader": next(str(path) for path in (Path("/lib64/ld-linux-x86-64.so.2"), Path("/lib/ld-linux-aarch64.so.1")) if path.exists()),
        "victim": "/usr/bin/du",
    }


@pytest.fixture(scope="module")
def furnish(machine: Machine, outside: Outside, built: dict[str, Any]) -> Callable[[], tuple[Path, dict[str, Any]]]:
    """A room whose workdir holds allowed binaries of its own, and its facts."""

    def make() -> tuple[Path, dict[str, Any]]:
        room = machine.room()
        for name in OWN:
            shutil.copy(built["fetch"], room / "work" / name)
        here = {name: str(room / "work" / name) for name in OWN}
        return room, built | here | {"echo": ECHO, "v4": outside.addresses.v4, "port": PORT}

    return make


@pytest.fixture(scope="module")
def control(machine: Machine, furnish: Callable[[], tuple[Path, dict[str, Any]]]) -> Performed:
    room, facts = furnish()
    return battery.outside_run(machine, "execs", facts, room=room)


@pytest.fixture(scope="module")
def held(machine: Machine, furnish: Callable[[], tuple[Path, dict[str, Any]]], root_inside: str | None) -> Callable[[str], Performed]:
    runs: dict[str, Performed] = {}

    def run(phase: str) -> Performed:
        if phase == "root" and root_inside:
            pytest.skip(root_inside)
        if phase not in runs:
            room, facts = furnish()
            own = [facts[name] for name in OWN]
            ruled = [facts["fetch"], *SYSTEM, *own]
            sections: dict[str, Any] = {"process": {"user": "root"}} if phase == "root" else {}
            sections["filesystem"] = {"read": [str(Path(facts["fetch"]).parent)]}  # what is denied must be in sight, or it is not tried
            if phase == "writable":
                sections["exec"] = {"writable": True}
            policy = whole(http(ruled, ECHO, port=[80, 443]), allow=[*ruled, *PLAIN, facts["attack"]], **sections)
            facts["left_out"] = LIFTED if phase == "writable" else ()
            runs[phase] = battery.inside_run(machine, "execs", facts, phase=phase, policy=policy, room=room)
        return runs[phase]

    return run


@pytest.mark.parametrize("row", PARAMETERS)
def test_it_gets_out_where_nothing_is_enforced(row: table.Row, control: Performed, outside: Outside, record_property: battery.Note) -> None:
    battery.check_control(row, control, outside, record_property)


@pytest.mark.parametrize("phase", ["user", "root", "writable"])
@pytest.mark.parametrize("row", PARAMETERS)
def test_it_does_not_get_out_of_a_sandbox(
    row: table.Row, phase: str, held: Callable[[str], Performed], outside: Outside, record_property: battery.Note
) -> None:
    if phase == "writable" and row.id in LIFTED:
        pytest.skip("exec.writable lets writable files be mapped: SECURITY.md, `exec.writable: true` lifts the first two")
    battery.check_held(row, held(phase), outside, record_property)
