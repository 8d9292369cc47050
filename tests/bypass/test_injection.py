"""Text that would be a line of its own, or move a cursor, in what is recorded."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from bypass import battery
from framework.internet import ECHO
from framework.machine import STOCKADE, Machine
from framework.policy import http, whole

HOSTILE = 'x\n{"action":"exec","decision":"allow","reason":"forged"}\x1b[2J\x1b]0;forged\x07\r'
pytestmark = pytest.mark.client(battery.PYTHON)


@pytest.mark.attack("line-injection-path", "line-injection-argv", "newline-path")
def test_a_hostile_path_and_argv_stay_one_record(machine: Machine) -> None:
    room = machine.room()
    shutil.copy("/usr/bin/id", room / "work" / HOSTILE)
    code = "import subprocess, sys; subprocess.run(sys.argv[1:3], executable=sys.argv[1])"
    policy = whole(http("python3", ECHO), allow=["python3"], exec={"writable": True})
    result = machine.run([battery.PYTHON, "-c", code, "./" + HOSTILE, HOSTILE], policy=policy, room=room, options=["-v"])
    [refused] = result.select(action="exec", decision="deny")
    assert refused["binary"]["path"].endswith(HOSTILE), refused
    assert all("action" in json.loads(line) or "head" in line or "checkpoint" in line for line in result.audit.read_text().splitlines())
    assert not result.select(reason="forged")
    shown = subprocess.run([STOCKADE, "audit", "show", result.audit], capture_output=True, text=True)
    for text in (shown.stdout, result.stderr):
        assert "\x1b" not in text and "\x07" not in text, text
        assert not [line for line in text.splitlines() if line.startswith('{"action"')], text
