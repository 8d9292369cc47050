"""The launcher by itself, without an agent: what runs in the end, and what is left of a sandbox of which one step failed.

In a process of its own: the tests' has threads, and a launcher is forked before there are any.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stockade.sandbox.cgroup import mounted

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are root's to make")]

CHILD = """
import dataclasses, json, os, sys
from stockade.sandbox import libc, seccomp, view
from stockade.sandbox.filter import compile_filter
from stockade.sandbox.launch import Launcher
from stockade.sandbox.plan import Bind, Plan
from stockade.service.settings import Settings
from stockade.types import StockadeError

def remembers(pid, words):
    # whether this stands in memory that the process may write
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            place, rights = line.split()[:2]
            start, end = (int(word, 16) for word in place.split("-"))
            if rights.startswith("rw"):
                memory.seek(start)
                if words in memory.read(end - start):
                    return True
    return False

cgroup, work, changes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
binds, links = view.system_binds()
plan = Plan(
    name="box", user=1471999999, cgroup=cgroup, joins=(), argv=("sh", "-c", "cat /etc/said; exit 7"), environment={"PATH": "/bin"},
    workdir=work, binds=(*binds, Bind(work, work, writable=True)), links=links, files={"/etc/said": b"x" * 300_000 + b"whole"}, hidden=(),
    home="/home/agent", seccomp=compile_filter(seccomp.sandbox()),
)
if "bind" in changes:
    plan = dataclasses.replace(plan, binds=(*plan.binds, Bind(changes.pop("bind"), "/nowhere")))
if "argv" in changes:
    changes["argv"] = tuple(changes["argv"])
watched = changes.pop("watched", False)
plan = dataclasses.replace(plan, **changes)
read, write = os.pipe()
launcher = Launcher.fork((0, write, write))
os.close(write)
for listening in launcher.open_network(Settings().network):
    listening.close()
told = {}
if watched:  # what the launcher learns from the plan, and not by being forked from here
    shown, kept = os.urandom(32), os.urandom(32).hex()
    files, environment = {"/etc/said": b"x" * 150_000 + shown + b"x" * 150_000}, plan.environment | {"KEPT": kept}
    plan = dataclasses.replace(plan, argv=("sleep", "60"), files=files, environment=environment)
try:
    init = launcher.start(plan)
except StockadeError as error:
    told["error"] = error.message
else:
    if watched:
        told["remembers"] = [remembers(init, kept.encode()), remembers(init, shown)]
        os.kill(init, 9)
    with open(read) as said:
        told["said"] = said.read()
    told["status"] = os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])
launcher.abandon()
try:
    told["left"] = os.waitpid(-1, 0)
except ChildProcessError:
    told["left"] = None
print(json.dumps(told))
"""


def launched(place: Path, **changes: object) -> dict[str, object]:
    cgroup = mounted() / f"stockade-test-{os.getpid()}"
    work = Path(tempfile.mkdtemp(dir=place))
    cgroup.mkdir()
    os.chown(work, 1471999999, 1471999999)
    try:
        words = [sys.executable, "-c", CHILD, str(cgroup), str(work), json.dumps(changes)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert (cgroup / "cgroup.events").read_text().startswith("populated 0"), done
        told: dict[str, object] = json.loads(done.stdout)
        return told
    finally:
        cgroup.rmdir()


def test_the_command_runs_and_its_files_are_whole(place: Path) -> None:
    told = launched(place)
    assert told == {"said": "x" * 300_000 + "whole", "status": 7, "left": None}


def test_a_view_that_cannot_be_built_is_told_and_leaves_nothing(place: Path) -> None:
    told = launched(place, bind="/no/such/thing")
    assert "cannot make the sandbox" in str(told["error"]) and "/no/such/thing" in str(told["error"]), told
    assert told["left"] is None


def test_what_init_cannot_do_is_told_by_init_and_leaves_nothing(place: Path) -> None:
    """The launcher is over by then."""
    told = launched(place, workdir="/no/such/place")
    assert "cannot make the sandbox" in str(told["error"]) and "/no/such/place" in str(told["error"]), told
    assert told["left"] is None


def test_a_command_that_is_not_there_ends_as_in_a_shell(place: Path) -> None:
    told = launched(place, argv=["no-such-command"])
    assert told == {"said": "stockade: no-such-command: not found in the sandbox\n", "status": 127, "left": None}


def test_init_does_not_keep_the_files_that_are_shown(place: Path) -> None:
    """Half a megabyte of certificates, for each sandbox and as long as it lives. Its environment it does keep: the command gets it."""
    told = launched(place, watched=True)
    assert told["remembers"] == [True, False], told
