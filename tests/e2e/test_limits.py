"""How many processes, how much memory and how many cores a sandbox gets, seen from inside and on record."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from framework.machine import Machine, wait_for
from framework.policy import whole
from stockade.sandbox import limits

pytestmark = pytest.mark.client("/usr/bin/python3")

BOMB = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
children = []
try:
    while True:
        children.append(child := os.fork())
        if child == 0:
            signal.pause()
except OSError as error:
    print(len(children), error.strerror, flush=True)
"""
HOG = """
import os, sys
child = os.fork()
if child == 0:
    held = []
    while True:
        held.append(bytearray(1 << 20))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "and I live", flush=True)
"""
SHM = "import os\nfile = open('/tmp/held', 'wb')\nwhile True:\n    file.write(bytes(1 << 20))\n"
BURN = "import time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end:\n    pass\nprint(time.process_time())\n"


def needs(controller: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(controller not in limits.places(), reason=f"no cgroup hierarchy has the {controller} controller")


def policy(**process: object) -> str:
    return whole(allow=["python3", "true"], process=process)


def cgroups_of(name: str) -> list[Path]:
    """The v1 cgroups of a sandbox, by the name of its run."""
    roots = {Path(place.partition(" at ")[2]) for place in limits.places().values()}
    return [path for root in roots for path in (root / "stockade").glob(name.replace("box-", "sandbox-"))]


def processes(cgroups: list[Path]) -> set[int]:
    return {int(pid) for path in cgroups for pid in (path / "cgroup.procs").read_text().split()}


@needs("pids")
def test_a_fork_bomb_stops_at_its_limit_and_the_agent_records_it(machine: Machine) -> None:
    result = machine.run(["python3", "bomb.py"], policy=policy(pids=30), files={"bomb.py": BOMB})
    assert result.stdout == "29 Resource temporarily unavailable\n", result  # and the bomb itself
    [record] = result.select(reason="limit_reached")
    assert record["detail"] == {"limit": "pids", "forks_refused": 1} and record["decision"] == "deny"
    assert "pids 30" in result.select(reason="started")[0]["detail"]["limits"]
    assert result.select(reason="stopped"), result


@needs("memory")
def test_a_memory_hog_is_killed_and_nobody_else(machine: Machine) -> None:
    result = machine.run(["python3", "hog.py"], policy=policy(memory="96M"), files={"hog.py": HOG})
    assert result.stdout == "-9 and I live\n", result
    records = result.select(reason="limit_reached")
    assert [record["detail"] for record in records] == [{"limit": "memory", "processes_killed": 1}], result
    assert f"memory {96 << 20}" in result.select(reason="started")[0]["detail"]["limits"]


@needs("memory")
def test_private_tmp_counts_as_memory(machine: Machine) -> None:
    result = machine.run(["python3", "shm.py"], policy=policy(memory="64M"), files={"shm.py": SHM})
    assert result.status == 137, result
    assert result.select(reason="limit_reached"), result


@needs("cpu")
def test_half_a_core_is_half_a_core(machine: Machine) -> None:
    """CPU time of a process that never waits, in 1.5 s of the clock."""
    limited = machine.run(["python3", "burn.py"], policy=policy(cpu=0.2), files={"burn.py": BURN})
    assert float(limited.stdout) < 0.75, limited  # without a limit it would be about 1.5; noise only makes it less
    assert "cpu 0.2" in limited.select(reason="started")[0]["detail"]["limits"]


def test_every_sandbox_has_a_limit_on_processes_and_no_other(machine: Machine) -> None:
    result = machine.run("true", policy=policy())
    [started] = result.select(reason="started")
    how = "by default" if "pids" in limits.places() else "by RLIMIT_NPROC"
    assert started["detail"]["limits"] == [f"pids 4096 {how}"]
    assert not result.select(reason="limit_reached")


@pytest.mark.skipif(
    "v1" not in limits.places().get("pids", ""), reason="the pids controller is not in a v1 hierarchy that could be unmounted"
)
def test_a_controller_that_no_hierarchy_has_is_refused_unless_the_policy_says_it_may_be_missing(machine: Machine) -> None:
    """The pids hierarchy is taken away, in the run's own mount namespace."""
    root = limits.places()["pids"].partition(" at ")[2]
    through = ["sh", "-ec", f'umount {root}; exec "$@"', "sh"]
    result = machine.run(["python3", "bomb.py"], policy=policy(pids=20), files={"bomb.py": BOMB}, through=through)
    assert result.status == 125 and "process.pids: no cgroup hierarchy offers this controller" in result.stderr, result
    assert not result.records
    lenient = whole(allow=["python3"], process={"pids": 20}, best_effort=["limits"])
    result = machine.run(["python3", "bomb.py"], policy=lenient, files={"bomb.py": BOMB}, through=through)
    assert result.stdout == "19 Resource temporarily unavailable\n", result  # RLIMIT_NPROC holds a uid of its own as well
    assert result.select(reason="started")[0]["detail"]["limits"] == ["pids 20 by RLIMIT_NPROC"]


def test_a_limit_that_no_program_fits_into_is_refused(machine: Machine) -> None:
    result = machine.run("true", policy=policy(memory="1M"))
    assert result.status == 125 and "[bad_size]" in result.stderr, result


@needs("pids")
def test_the_cgroups_go_with_the_sandbox_also_when_its_agent_was_killed(machine: Machine) -> None:
    room = machine.room({"bomb.py": BOMB.replace("flush=True", "flush=True, file=open('said', 'w')") + "signal.pause()\n"})
    with machine.start(["python3", "bomb.py"], policy=policy(pids=10), room=room) as running:
        running.wait_for("unavailable", room / "work/said")
        cgroups = cgroups_of(running.records()[0]["sandbox"]["name"])
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(10)
    assert len(processes(cgroups)) == 11, "a sandbox outlives its agent, and so does its limit: ten, and init"
    for pid in processes(cgroups):
        with contextlib.suppress(ProcessLookupError):  # init takes the others with it
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes(cgroups), "its processes to end")
    after = machine.run("true", policy=policy())
    assert after.status == 0, after
    assert not [path for path in cgroups if path.exists()], "the next start sweeps"
    assert not cgroups_of(after.records[0]["sandbox"]["name"])
