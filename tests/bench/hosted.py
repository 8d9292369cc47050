"""What a sandbox costs a daemon that serves many: memory and descriptors for one more, and what the daemon does while nobody does anything.

Memory is PSS (what is shared counts once), of the daemon, its nursery and worker, and the inits of the sandboxes.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from framework.machine import wait_for, worker_of
from framework.policy import http, whole
from stockade.service.listening import answers
from stockade.service.settings import Settings

STOCKADE = Path(sys.executable).parent / "stockade"
POLICY = whole(http("curl", "api.example.com"), allow=["sleep", "curl", "sh"])
IDLE = 20.0  # seconds that are looked at


def lines(directory: Path, count: int) -> Iterator[str]:
    """count: sandboxes. Ends the daemon that it starts, and everything in it."""
    policy, work = directory / "hosted.yaml", directory / "work"
    policy.write_text(POLICY)
    daemon = subprocess.Popen([STOCKADE, "daemon"], stdout=subprocess.DEVNULL)
    clients: list[subprocess.Popen[bytes]] = []
    try:
        wait_for(lambda: answers(Settings().daemon), "the daemon", 60)
        first = _start(policy, work)
        clients.append(first)
        worker = worker_of(daemon.pid)
        before = _pss(_everybody(daemon.pid)), _descriptors(daemon.pid), _descriptors(worker)
        began = time.monotonic()
        for _ in range(count):
            clients.append(_start(policy, work))
        took = (time.monotonic() - began) / count
        people = _everybody(daemon.pid)
        memory = (_pss(people) - before[0]) / count / 1024
        descriptors, at_worker = ((_descriptors(pid) - had) / count for pid, had in ((daemon.pid, before[1]), (worker, before[2])))
        spent = _seconds(people)
        time.sleep(IDLE)
        idle = (_seconds(people) - spent) / IDLE
        yield f"{count} sandboxes of one daemon, one after the other: {took * 1000:.0f} ms each, its client's start with it"
        yield f"for each: {memory:.2f} MiB with its init, {descriptors:.1f} descriptors of the daemon's and {at_worker:.1f} of its worker's"
        yield f"all of them idle: {idle * 100:.1f} % of a core; the daemon has {_pss([daemon.pid]) / 1024:.0f} MiB"
    finally:
        for client in clients:
            client.send_signal(signal.SIGTERM)
        for client in clients:
            client.wait(60)
        daemon.terminate()
        daemon.wait(60)


def _start(policy: Path, work: Path) -> subprocess.Popen[bytes]:
    line = [str(STOCKADE), "run", "--policy", str(policy), "--workdir", str(work), "--", "sh", "-c", "echo; exec sleep 6000"]
    client = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert client.stdout is not None
    if not client.stdout.readline():
        raise SystemExit("bench: a sandbox did not start")
    return client


def _everybody(daemon: int) -> list[int]:
    """The daemon and its children: nursery, worker, the sandboxes' inits."""
    children = [path.read_text().split() for path in Path(f"/proc/{daemon}/task").glob("*/children")]
    return [daemon, *map(int, itertools.chain.from_iterable(children))]


def _pss(processes: list[int]) -> int:
    """KiB."""
    total = 0
    for pid in processes:
        found = dict(line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        total += int(found["Pss:"])
    return total


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _seconds(processes: list[int]) -> float:
    """Of CPU so far."""
    ticks = 0
    for pid in processes:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
