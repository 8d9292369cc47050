"""The service under a real systemd as PID 1: what service.py saw of it, in a namespace of this machine and in the box of debian13.py.

The first is this machine's kernel and systemd, and quick; the second is Debian 13 whole, with cgroup v2 alone and the watchdog's own time.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from framework import probes
from stockade.daemon.unit import text
from vm import pid1
from vm.debian13 import Step

pytestmark = pytest.mark.skipif(os.environ.get("STOCKADE_VM") == "guest", reason="this is the guest")
Seen = dict[str, Any]
HELD = ("first", "reloaded", "restarted", "killed", "oftener", "hung", "again")  # under a daemon, and what it was after
ELSEWHERE = "10.9.9.9"
EXPOSURE = {"252": 7.4, "257": 7.4}  # docs/daemon.md has them


@pytest.fixture(scope="module", params=["namespace", "box"])
def seen(request: pytest.FixtureRequest) -> Seen:
    if request.param == "box":
        steps: dict[str, Step] = request.getfixturevalue("steps")
        found: Seen = json.loads(steps["service.json"].said)
    else:
        if why := probes.governing() or pid1.missing():
            pytest.skip(why)
        place: Path = request.getfixturevalue("place")
        room = place / "service"
        room.mkdir()
        found = pid1.seen(room, 240)
    if why := found.get("failed"):
        pytest.fail(f"after {list(found)[-2]}: {why}", pytrace=False)
    assert found["over"] and found["systemd"][0] == "systemd", found.keys()
    return found


def tried(found: Seen, step: str) -> set[tuple[Any, ...]]:
    """What is on record of the three requests of a step: action, decision, reason and where to."""
    records = (tuple(each) for each in found[step]["records"])
    return {(action, decision, reason, path or host) for action, decision, reason, host, path in records if action in ("http", "connect")}


def test_the_installer_starts_it_and_systemd_says_so(seen: Seen) -> None:
    installed = seen["installed"]
    assert installed["status"] == 0 and installed["answers"], installed
    shown = installed["shown"]
    assert (shown["Type"], shown["ActiveState"], shown["SubState"], shown["UnitFileState"]) == ("notify", "active", "running", "enabled")
    assert shown["WatchdogUSec"] == "30s" and shown["StatusText"] == "serves 0 sandboxes" and shown["NRestarts"] == "0", shown
    command = re.search(r"^ExecStart=(\S+) daemon$", installed["unit"], re.MULTILINE)
    assert command and installed["unit"] == text(command[1]) and seen["group"] == ["stockade"]


def test_it_is_active_when_it_answers_and_not_before(seen: Seen) -> None:
    states = {state for state, _ in seen["samples"]}
    assert states == {"activating", "active"} and seen["samples"][0] == ["activating", False], seen["samples"]
    assert all(answered for state, answered in seen["samples"] if state == "active")


def test_systemd_has_nothing_to_say_against_the_unit(seen: Seen) -> None:
    assert seen["verify"] == {"status": 0, "said": ""}
    rated = re.search(r"Overall exposure level for stockade.service: ([0-9.]+)", seen["security"]["said"])
    version = seen["systemd"][1].split()[1]
    assert rated and float(rated[1]) <= EXPOSURE.get(version, max(EXPOSURE.values())), seen["security"]["said"][-200:]


@pytest.mark.parametrize("step", HELD)
def test_a_sandbox_is_held_to_its_policy_by_each_daemon(seen: Seen, step: str) -> None:
    """Seen from inside, by the server, and on record."""
    found = seen[step]
    assert (found["allowed"], found["path"]) == ("200", "403") and found["address"].startswith("failed"), found
    assert found["served"] == [f"127.0.0.1 /allowed/{step}"]
    assert {
        ("http", "allow", "rule_allow", f"/allowed/{step}"),
        ("http", "deny", "no_rule", f"/refused/{step}"),
        ("connect", "deny", "no_rule", ELSEWHERE),
    } <= tried(seen, step)


def test_its_process_and_its_limits_are_the_same_to_the_end(seen: Seen) -> None:
    steps = [seen[step] for step in (*HELD, "stopped")]
    assert steps[0]["process"] and {step["process"] for step in steps} == {steps[0]["process"]}
    assert all(step["limits"] == steps[0]["limits"] for step in steps), "daemon-reload and restarts leave the sandbox's cgroup alone"
    release = seen["end"]["kernel"].split(".")
    told = (int(release[0]), int(release[1])) >= (6, 15)
    assert seen["end"]["status"] == (7 if told else 125) and not seen["end"]["process"], seen["end"]


def test_reload_is_not_a_restart_and_the_status_is_of_now(seen: Seen) -> None:
    again, reload, shown = seen["reload"]
    assert (again["status"], reload["status"], shown["ActiveState"], shown["NRestarts"]) == (0, 0, "active", "0"), seen["reload"]
    assert "Active: active (running)" in seen["status"]["said"] and 'Status: "serves 1 sandbox"' in seen["status"]["said"]
    assert "serviced" in seen["listed"]["said"]


def test_restart_takes_it_over(seen: Seen) -> None:
    before, restart, after, answered = seen["restart"]
    assert restart["status"] == 0 and answered and after["MainPID"] != before["MainPID"], seen["restart"]
    assert (after["ActiveState"], after["StatusText"], after["NRestarts"]) == ("active", "serves 1 sandbox", "0")


def test_one_that_is_killed_is_started_again_however_often(seen: Seen) -> None:
    before, after, answered = seen["kill"]
    assert answered and after["NRestarts"] == "1" and after["MainPID"] != before["MainPID"], seen["kill"]
    after, answered = seen["often"]
    assert answered and int(after["NRestarts"]) >= 9 and after["StatusText"] == "serves 1 sandbox", seen["often"]


def test_one_that_hangs_is_ended_by_the_watchdog_without_a_core_and_started_again(seen: Seen) -> None:
    before, after, answered, said = seen["hang"]
    assert answered and after["NRestarts"] == str(int(before["NRestarts"]) + 1) and after["MainPID"] != before["MainPID"], seen["hang"]
    assert re.search(r"Watchdog timeout \(limit \d+s\)", said) and "Failed with result 'watchdog'" in said, said
    (limit,) = seen["core"]
    assert limit.split()[-3:-1] == ["0", "0"] and not seen["cores"], (limit, seen["cores"])


def test_stopped_it_leaves_the_sandbox_held_and_the_next_one_takes_it_over(seen: Seen) -> None:
    stop, shown, process = seen["stop"]
    assert (stop["status"], shown["ActiveState"], shown["Result"]) == (0, "inactive", "success"), seen["stop"]
    found = seen["stopped"]
    assert process == found["process"] and not found["served"], found
    assert all(found[each].startswith("failed") for each in ("allowed", "path", "address")), found
    assert re.search(r"^serviced +orphaned ", seen["held"]["said"], re.MULTILINE), seen["held"]
    start, shown, answered = seen["start"]
    assert start["status"] == 0 and answered and (shown["ActiveState"], shown["StatusText"]) == ("active", "serves 1 sandbox")


def test_it_is_not_removed_while_the_sandbox_lives(seen: Seen) -> None:
    assert seen["refuses"]["status"] == 1 and "these sandboxes live: serviced" in seen["refuses"]["said"], seen["refuses"]
    assert "nothing was removed" in seen["refuses"]["said"]


def test_nothing_is_left_when_it_is_removed(seen: Seen) -> None:
    found = seen["uninstalled"]
    assert found["status"] == 0 and found["left"] == [] and not found["command"], found
    assert found["shown"]["ActiveState"] == "inactive" and not found["shown"]["UnitFileState"], found


def test_no_program_is_left_and_limits_were_in_force_on_cgroup_v2_alone(seen: Seen, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["seen"] != "box":
        pytest.skip("this machine's programs are not only this test's, and its controllers may be v1's")
    assert seen["uninstalled"]["links"] <= seen["links"][0]
    assert seen["first"]["limits"].keys() >= {"pids.max", "memory.max", "cpu.max"}, seen["first"]["limits"]
