"""What is taken away from around a running sandbox, and that nothing gets out then either. Each knocks at every way out all the while."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from bypass import battery
from bypass.knocking import Knocking, knocking
from framework.machine import STOCKADE, Machine, wait_for, worker_of
from framework.outside import Outside
from stockade.sandbox import cgroup
from stockade.types import Reason

pytestmark = pytest.mark.client(battery.PYTHON)


def nothing_got_out(outside: Outside, knock: Knocking, word: str) -> None:
    outside.settle()
    assert not outside.heard(knock.phase, word), knock.lines(word)
    assert not {"200", "out"} & {line.split()[2] for line in knock.lines(word)}, knock.lines(word)


def cgroup_of(pid: int) -> Path:
    inside = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return cgroup.mounted() / inside[3:].lstrip("/")


@pytest.mark.attack("ports-agent-dead", "killed-agent")
@pytest.mark.parametrize("first", ["agent", "worker"])
def test_after_kill_9_of_agent_and_worker_nothing_gets_out(machine: Machine, outside: Outside, first: str) -> None:
    """Both, in either order; the sandbox lives on and reaches nothing."""
    with knocking(machine, outside) as knock:
        agent, worker = knock.running.process.pid, worker_of(knock.running.process.pid)
        for pid in (agent, worker) if first == "agent" else (worker, agent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        knock.running.process.wait(10)
        wait_for(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end")
        if knock.processes:
            knock.say("orphaned")
            with contextlib.suppress(AssertionError):  # the sandbox may also have ended with its agent
                knock.rounds("orphaned", timeout=30)
        nothing_got_out(outside, knock, "orphaned")
    said = {record["reason"] for record in knock.running.records()}
    assert "started" in said and "stopped" not in said, "a killed agent did not stop in order, and its trail must not say so"


@pytest.mark.attack("stopped-worker")
def test_a_stopped_worker_forwards_nothing(machine: Machine, outside: Outside) -> None:
    with knocking(machine, outside) as knock:
        worker = worker_of(knock.running.process.pid)
        os.kill(worker, signal.SIGSTOP)
        try:
            knock.say("stalled")
            knock.rounds("stalled", 1)
            nothing_got_out(outside, knock, "stalled")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


@pytest.mark.attack("moved-by-root")
def test_a_process_moved_out_of_its_cgroup_reaches_nobody(machine: Machine, outside: Outside) -> None:
    """Root on the host moves it. Its new sockets meet no program; there is no route, and straight to the agent there is no origin. What it
    had open is no longer written to by the process that was decided on."""
    elsewhere = cgroup.mounted() / f"stockade-bypass-{os.getpid()}"
    elsewhere.mkdir()
    try:
        with knocking(machine, outside) as knock:
            for pid in knock.processes:
                (elsewhere / "cgroup.procs").write_text(str(pid))
            knock.say("moved")
            knock.rounds("moved")
            nothing_got_out(outside, knock, "moved")
            assert wait_for(
                lambda: [record for record in knock.running.records() if record["reason"] == Reason.NO_ORIGIN],
                "a record of what had no origin",
            )
    finally:
        wait_for(lambda: not (elsewhere / "cgroup.procs").read_text(), "an empty cgroup")
        elsewhere.rmdir()


def detach(knock: Knocking) -> int:
    """Every pinned link of the sandbox, detached as root would by hand. How many there were."""
    number = cgroup_of(knock.processes[0]).name.rpartition("-")[2]
    count = 0
    for pin in Path("/run/stockade/bpf", number).iterdir():
        count += subprocess.run(["bpftool", "link", "detach", "pinned", pin], capture_output=True).returncode == 0
    return count


@pytest.mark.client("bpftool")
@pytest.mark.attack("detached-by-hand")
def test_programs_detached_by_hand_are_noticed_and_nothing_gets_out(machine: Machine, outside: Outside) -> None:
    """All of them at once: until the agent has seen it there is no route, and then there is no sandbox. No answer comes on any way."""
    with knocking(machine, outside) as knock:
        knock.say("detached")
        if not detach(knock):
            pytest.skip("bpftool detaches no link on this machine")
        knock.say("unheld")
        wait_for(lambda: knock.running.process.poll() is not None, "the end of the sandbox")
        result = knock.running.finish()
    outside.settle()
    # What was open when they went is governed by the worker still, so it may have answered until the sandbox was killed.
    new = {way: knock.said("unheld", way) for way in ("allowed", "straight", "stream", "datagram")}
    assert not any({"200", "out", "sent"} & said for said in new.values()), new
    assert result.select(action="lifecycle", decision="deny", reason=Reason.ENFORCEMENT_LOST), result
    assert not knock.processes, "something of the sandbox lives on"


@pytest.mark.attack("disk-full")
def test_a_full_disk_denies_and_the_trail_stays_whole(machine: Machine, outside: Outside, small_disk: Path) -> None:
    filler = small_disk / "filler"
    with knocking(machine, outside, room=small_disk) as knock:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 256)
        knock.say("full")
        knock.rounds("full", 2)
        # What was recorded before the last byte was gone may have passed; from some round on nothing does.
        knock.say("fuller")
        knock.rounds("fuller", 3)
        outside.settle()
        nothing_got_out(outside, knock, "fuller")
        filler.unlink()
        knock.say("roomy")
        knock.rounds("roomy", 2)
        knock.say("end")
        result = knock.running.finish()
    # A trail that failed once is not trusted again by itself: what is refused from then on has no record, so one at the end says why.
    for word in ("full", "fuller", "roomy"):
        assert knock.said(word, "allowed") == knock.said(word, "kept") == {"403"}, knock.lines(word)
    assert "No space left on device; nothing is allowed from here on" in result.stderr, result
    assert result.select(action="lifecycle", decision="deny", reason=Reason.AUDIT_UNAVAILABLE), result
    verified = subprocess.run([STOCKADE, "audit", "verify", result.audit], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.attack("event-loss")
def test_a_flood_while_the_agent_stands_still_lets_nothing_out(machine: Machine, outside: Outside) -> None:
    """Nobody reads the ring: when it is full, what policy allows is refused too, and the loss is on record once the agent goes on."""
    with knocking(machine, outside, flood=80_000) as knock:
        agent = knock.running.process
        agent.send_signal(signal.SIGSTOP)
        try:
            knock.say("flood")
            knock.rounds("flooded", 1)
            nothing_got_out(outside, knock, "flooded")
        finally:
            agent.send_signal(signal.SIGCONT)
        wait_for(
            lambda: [record for record in knock.running.records() if record["reason"] == Reason.EVENTS_LOST],
            "a record of the loss",
            timeout=60,
        )
