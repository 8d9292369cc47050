"""Containers that begin: stopped before their first instruction until somebody has looked at them, and not taken for their runtime."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.box import Box
from stockade.kernel.load import Kernel
from stockade.sandbox.cgroup import Cgroup

if not shutil.which("unshare"):
    pytest.skip("no unshare (util-linux)", allow_module_level=True)


@pytest.fixture
def gated(kernel: Kernel, cgroups: Path) -> Iterator[Path]:
    """A container's cgroup in a pod's, which is gated."""
    pod = cgroups / f"pod-{os.getpid()}"
    (pod / "container").mkdir(parents=True)
    cgroup = Cgroup(pod)
    kernel.maps.gate(cgroup.id, cgroup.level)
    yield pod / "container"
    kernel.maps.ungate(cgroup.id)
    cgroup.kill()
    until = time.monotonic() + 30
    while pod.exists() and time.monotonic() < until:
        cgroup.remove()


def begun(where: Path, *words: str | Path) -> subprocess.Popen[bytes]:
    """In that cgroup, as a runtime does it: moved there before it goes into the container."""
    return subprocess.Popen([*map(str, words)], preexec_fn=lambda: (where / "cgroup.procs").write_text("0"))  # type: ignore[arg-type, return-value]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def stopped(process: subprocess.Popen[bytes]) -> bool:
    """Whether it stops before it ends."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    return os.WIFSTOPPED(status)


def test_a_container_begins_when_it_is_let(gated: Path, bench: Path) -> None:
    process = begun(gated, "unshare", "--mount", "touch", bench / "evidence")
    assert stopped(process) and not (bench / "evidence").exists()
    assert Path(f"/proc/{process.pid}/exe").readlink().name == "touch", "it executes its own program, and none of its instructions"
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(30) == 0 and (bench / "evidence").exists()


def test_its_children_are_not_stopped_again(gated: Path, bench: Path) -> None:
    process = begun(gated, "unshare", "--mount", "sh", "-c", f"touch {bench / 'evidence'}; exit 3")
    assert stopped(process)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(30) == 3 and (bench / "evidence").exists()


def test_what_its_runtime_executes_on_the_way_runs(gated: Path, bench: Path) -> None:
    """In the mount namespace of who started it."""
    process = begun(gated, "touch", bench / "evidence")
    assert process.wait(30) == 0 and (bench / "evidence").exists()


def test_who_comes_into_one_that_was_looked_at_does_not_stop(kernel: Kernel, gated: Path, bench: Path) -> None:
    """It is not governed, reaches nothing, and runs: as `kubectl exec` into a pod that is refused everything."""
    cgroup = Cgroup(gated)
    kernel.maps.let_begin(cgroup.id, cgroup.level)
    process = begun(gated, "unshare", "--mount", "touch", bench / "evidence")
    assert process.wait(30) == 0 and (bench / "evidence").exists()
    kernel.maps.ungate(cgroup.id)
    assert stopped(begun(gated, "unshare", "--mount", "touch", bench / "evidence"))


def test_without_a_gate_nobody_stops(kernel: Kernel, gated: Path, bench: Path) -> None:
    kernel.maps.ungate(Cgroup(gated.parent).id)
    process = begun(gated, "unshare", "--mount", "touch", bench / "evidence")
    assert process.wait(30) == 0 and (bench / "evidence").exists()


def test_a_runtime_is_not_judged_and_what_it_starts_is(box: Box, kernel: Kernel, bench: Path) -> None:
    """`runc exec` is moved into the container's cgroup, executes itself there once more, and goes into the container only then."""
    touch = Path(shutil.copy("/usr/bin/touch", bench / "touch"))
    outside, path = Path("/proc/self/ns/mnt").stat().st_ino, box.cgroup.path
    assert box.run(touch, bench / "before").status == box.refusal
    kernel.maps.switch(box.number, box.cgroup.id, 1, box.flags, outside=outside)
    assert begun(path, touch, bench / "evidence").wait(30) == 0 and (bench / "evidence").exists()
    assert begun(path, "unshare", "--mount", touch, bench / "inside").wait(30) != 0
    assert [event.tail for event in box.heard()] == [os.fsencode(touch)], "one exec was judged"
    assert not (bench / "inside").exists() and not (bench / "before").exists()
