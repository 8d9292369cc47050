"""Containers that are found, stopped and let go on: none stands still for ever, whoever stopped it, and none says who its runtime is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.test_gates import begun, gated, stopped
from stockade.node.arriving import Arrival, arrival
from stockade.node.container import first
from stockade.sandbox.cgroup import Cgroup

__all__ = ["gated"]
IDENTITY = "0" * 64


@pytest.fixture
def alone(cgroups: Path) -> Iterator[Path]:
    """A container's cgroup that nobody gates."""
    path = cgroups / f"alone-{os.getpid()}"
    path.mkdir()
    yield path
    cgroup = Cgroup(path)
    cgroup.kill()
    while cgroup.populated():
        pass
    cgroup.remove()


def let_begin(process: subprocess.Popen[bytes], found: Arrival) -> int:
    async def main() -> None:
        await asyncio.wait_for(found.begin(), 60)

    asyncio.run(main())
    return process.wait(30)


def test_one_that_is_stopped_after_it_was_let_go_on_goes_on(gated: Path, bench: Path) -> None:
    """Nobody governs it: it reaches nothing, and runs."""
    process = begun(gated, "unshare", "--mount", "touch", bench / "evidence")
    found = first(Cgroup(gated))
    assert found is not None
    assert let_begin(process, Arrival(IDENTITY, Cgroup(gated), found, 0, None, stopped=False)) == 0
    assert (bench / "evidence").exists()


def test_one_that_began_as_it_was_frozen_goes_on(gated: Path, bench: Path) -> None:
    """The signal that stops it is only seen when it thaws: nothing waits until then."""
    process = begun(gated, "unshare", "--mount", "touch", bench / "evidence")
    assert stopped(process)
    (gated / "cgroup.freeze").write_text("1")
    os.kill(process.pid, signal.SIGCONT)
    os.kill(process.pid, signal.SIGSTOP)
    found = first(Cgroup(gated))
    assert found is not None
    assert let_begin(process, Arrival(IDENTITY, Cgroup(gated), found, 0, None, stopped=True)) == 0
    assert (bench / "evidence").exists()


def test_one_that_an_agent_left_frozen_is_thawed(alone: Path) -> None:
    """It died while it looked the container's files up."""
    process = begun(alone, "sleep", "60")
    (alone / "cgroup.freeze").write_text("1")
    found = asyncio.run(arrival(IDENTITY, Cgroup(alone)))
    assert found is not None and found.stopped
    found.go_on()
    assert (alone / "cgroup.freeze").read_text().strip() == "0" and process.poll() is None


def test_a_child_in_the_container_does_not_say_who_its_runtime_is(alone: Path) -> None:
    """A parent in the container is no runtime: its files are the container's, and its mount namespace is."""
    process = begun(alone, "unshare", "--mount", "sh", "-c", "sleep 60 & wait")
    until = time.monotonic() + 30
    while len(list(Cgroup(alone).processes())) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    (child,) = set(Cgroup(alone).processes()) - {process.pid}
    nested = alone / "nested"
    nested.mkdir()
    (nested / "cgroup.procs").write_text(str(process.pid))  # now the child is named before it
    assert next(iter(Cgroup(alone).processes())) == child
    found = first(Cgroup(alone))
    assert found is not None and found.pid == process.pid and found.mounts == Path("/proc/self/ns/mnt").stat().st_ino


def test_nobody_is_the_first_of_orphans(alone: Path) -> None:
    """In a PID namespace that containers share, whoever takes them up is in there too."""
    holder = subprocess.Popen(
        [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "sh",
            "-c",
            f"""
        (sh -c 'echo 0 > {alone}/cgroup.procs; exec sleep 60' &) ; exec sleep 60""",
        ]
    )
    try:
        until = time.monotonic() + 30
        while not Cgroup(alone).populated() and time.monotonic() < until:
            time.sleep(0.01)
        assert Cgroup(alone).populated() and first(Cgroup(alone)) is None
    finally:
        Cgroup(alone).kill()
        holder.kill()
        holder.wait()
