"""Root on the host takes away what holds a running sandbox: it is noticed, the sandbox ends, and the record says what was missing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.internet import ECHO, Internet
from framework.machine import Machine, Running, wait_for
from framework.policy import bare, http
from stockade.sandbox.cgroup import PARENT, mounted
from stockade.service.settings import Settings

pytestmark = pytest.mark.client("/usr/bin/python3")


def number_of(running: Running) -> int:
    """box-N: a sandbox that was given no name is called by its slot."""
    return int(str(running.records()[0]["sandbox"]["name"]).removeprefix("box-"))


def init_of(cgroup: Path) -> int:
    return int((cgroup / "cgroup.procs").read_text().split()[0])


def detach(program: str, where: str) -> Callable[[Running], None]:
    def take(running: Running) -> None:
        cgroup = (mounted() / PARENT / f"{where}-{number_of(running)}").stat().st_ino
        listed = json.loads(subprocess.run(["bpftool", "-j", "link", "show"], capture_output=True, check=True, text=True).stdout)
        programs = json.loads(subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True, text=True).stdout)
        ours = {shown["id"] for shown in programs if shown.get("name") == program}
        (link,) = [shown["id"] for shown in listed if shown.get("cgroup_id") == cgroup and shown["prog_id"] in ours]
        subprocess.run(["bpftool", "link", "detach", "id", str(link)], check=True)

    return take


def unpin(running: Running) -> None:
    """Through the agent's own root: the bpffs may be mounted in its namespace alone."""
    pins = Path(f"/proc/{running.process.pid}/root{Settings().run}/bpf/{number_of(running)}")
    next(pins.glob("link_*_on_exec")).unlink()


def move(running: Running) -> None:
    cgroup = mounted() / PARENT / f"sandbox-{number_of(running)}"
    (mounted() / "cgroup.procs").write_text(str(init_of(cgroup)))


@pytest.mark.parametrize(
    ("take", "said"),
    [
        pytest.param(detach("connect4", "sandbox"), "connect4 was detached", id="connect"),
        pytest.param(detach("skb_egress", "sandbox"), "skb_egress was detached", id="packets"),
        pytest.param(detach("getsockopt", "listeners"), "getsockopt was detached", id="origin"),
        pytest.param(unpin, "on_exec is no longer pinned", id="pin"),
        pytest.param(move, "the sandbox was moved to cgroup", id="moved"),
    ],
)
def test_the_sandbox_ends_with_what_held_it(
    machine: Machine, internet: Internet, inside: dict[str, str], take: Callable[[Running], None], said: str
) -> None:
    room = machine.room(inside)
    log = room / "work/hammer.log"
    with machine.start(f"/usr/bin/python3 hammer.py {ECHO}", policy=bare(http("python3", ECHO)), room=room) as running:
        running.wait_for("kept 5 200", log)
        cgroup = mounted() / PARENT / f"sandbox-{number_of(running)}"
        processes = [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
        assert len(processes) >= 2
        take(running)
        wait_for(lambda: running.process.poll() is not None, "the end of it")
        result = running.finish()
    assert result.status == 125, result
    assert said in result.stderr, result
    (record,) = result.select(action="lifecycle", reason="enforcement_lost")
    assert record["decision"] == "deny" and any(said in lost for lost in record["detail"]["lost"]), record
    assert result.select(action="lifecycle")[-1]["reason"] == "stopped", result
    assert [pid for pid in processes if Path(f"/proc/{pid}/root").exists()] == [], "something of the sandbox lives on"
    arrived = [seen for seen in internet.nginx.requests(server=ECHO) if seen["path"].startswith("/hammer/")]
    assert arrived, "it was reached before"
