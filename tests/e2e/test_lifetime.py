"""What a running sandbox goes through: a reload, and the death of its agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from framework.internet import ECHO, H1, Internet
from framework.machine import STOCKADE, Machine, Running, wait_for, worker_of
from framework.policy import bare, http

pytestmark = pytest.mark.client("/usr/bin/python3")


def ask(running: Running, work: Path, number: int) -> str:
    """The answer to the next request on the one connection that keepalive.py holds."""
    (work / f"go-{number}").touch()
    wait_for((work / f"answer-{number}").exists, f"answer {number}", running=running)
    return (work / f"answer-{number}").read_text()


def reload(running: Running, room: Path, policy: str, reason: str) -> None:
    before = len([record for record in running.records() if record["reason"] == reason])
    (room / "policy.yaml").write_text(policy)
    running.reload()
    wait_for(
        lambda: len([record for record in running.records() if record["reason"] == reason]) > before, f"a {reason} record", running=running
    )


def test_a_kept_connection_lives_through_a_reload_and_meets_the_new_rules(machine: Machine, inside: dict[str, str]) -> None:
    room = machine.room(inside)
    work = room / "work"
    with machine.start(f"/usr/bin/python3 keepalive.py {ECHO} 3", policy=bare(http("python3", ECHO)), room=room) as running:
        first = ask(running, work, 0)
        assert first.startswith("200 "), first
        reload(running, room, bare(http("python3", ECHO, H1, name="wider")), "reloaded")
        second = ask(running, work, 1)
        assert second.startswith("200 "), second
        reload(running, room, bare(http("python3", ECHO, paths=["/elsewhere"], name="narrower")), "reloaded")
        third = ask(running, work, 2)
        assert third.startswith(("403 ", "cut ")), third
        result = running.finish()
    generations = [record["sandbox"]["generation"] for record in result.select(action="http", decision="allow")]
    assert len(set(generations)) == 2, result
    assert result.select(action="http", decision="allow", rule="wider"), result
    assert result.select(host=ECHO, decision="deny"), result


def test_a_policy_that_does_not_load_never_replaces_one_that_did(machine: Machine, inside: dict[str, str]) -> None:
    room = machine.room(inside)
    work = room / "work"
    with machine.start(f"/usr/bin/python3 keepalive.py {ECHO} 2", policy=bare(http("python3", ECHO)), room=room) as running:
        assert ask(running, work, 0).startswith("200 ")
        reload(running, room, "- name: nonsense\n  binaries: {allow: [curl]}\n", "reload_refused")
        assert ask(running, work, 1).startswith("200 ")
        running.finish()


def test_kill_9_of_the_agent_lets_no_new_request_out(machine: Machine, internet: Internet, inside: dict[str, str]) -> None:
    """Neither on a connection that was open nor on a new one. The sandbox may live on or die: nothing gets out either way."""
    room = machine.room(inside)
    log = room / "work/hammer.log"

    def arrived() -> int:
        return len([seen for seen in internet.nginx.requests(server=ECHO) if seen["path"].startswith("/hammer/")])

    with machine.start(f"/usr/bin/python3 hammer.py {ECHO}", policy=bare(http("python3", ECHO)), room=room) as running:
        running.wait_for("new 5 200", log)
        try:
            running.process.send_signal(signal.SIGKILL)
            running.process.wait(10)
            time.sleep(0.3)  # what was acknowledged and under way when the agent died may still arrive
            then, said = arrived(), len(log.read_text().splitlines())
            assert then >= 10
            time.sleep(2)
            assert arrived() == then
            later = log.read_text().splitlines()[said:]
            assert [line for line in later if " 200" in line] == []
        finally:
            end(room / "work")


def end(work: Path) -> None:
    """Ends what an agent that was killed left behind: the processes whose working directory is this run's own."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == work and b"hammer.py" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue


def test_a_dead_worker_is_replaced_and_its_connections_are_cut(machine: Machine, internet: Internet, inside: dict[str, str]) -> None:
    room = machine.room(inside)
    work = room / "work"
    with machine.start(f"/usr/bin/python3 keepalive.py {ECHO} 2", policy=bare(http("python3", ECHO)), room=room) as running:
        assert ask(running, work, 0).startswith("200 ")
        os.kill(worker_of(running.process.pid), signal.SIGKILL)
        wait_for(lambda: [record for record in running.records() if record["reason"] == "worker_lost"], "a record", running=running)
        assert not ask(running, work, 1).startswith("200 "), "the connection of the dead worker answered"
        running.finish()
    with machine.start(f"/usr/bin/python3 hammer.py {ECHO}", policy=bare(http("python3", ECHO)), room=machine.room(inside)) as running:
        log = running.audit.parent / "work/hammer.log"
        running.wait_for("new 3 200", log)
        os.kill(worker_of(running.process.pid), signal.SIGKILL)
        wait_for(lambda: [record for record in running.records() if record["reason"] == "worker_lost"], "a record", running=running)
        served = log.read_text().count(" 200")
        wait_for(lambda: log.read_text().count(" 200") > served + 5, "answers through the next worker", running=running)
        running.process.terminate()
        running.finish()


def test_start_and_stop_are_on_record_and_the_trail_verifies(machine: Machine) -> None:
    result = machine.run("true", policy=bare(http("curl", ECHO)))
    assert result.status == 0, result
    reasons = [record["reason"] for record in result.select(action="lifecycle")]
    assert (reasons[0], reasons[-1]) == ("started", "stopped")
    verified = subprocess.run([STOCKADE, "audit", "verify", result.audit], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    lines = result.audit.read_text().splitlines()
    forged = json.dumps(json.loads(lines[0]) | {"pid": 1})
    result.audit.write_text("\n".join([forged, *lines[1:]]) + "\n")
    assert subprocess.run([STOCKADE, "audit", "verify", result.audit], capture_output=True).returncode == 1
