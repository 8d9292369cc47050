"""By what a container could get out of what holds it, told before its first instruction: what its runtime was told, and where it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stockade.attach.target import PTRACE, PTRACE_WITHIN, Target
from stockade.node.arriving import Arrival
from stockade.node.container import Bundle
from stockade.node.powers import powers
from stockade.sandbox.cgroup import Cgroup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it makes a PID namespace")


@pytest.fixture
def ours() -> Iterator[int]:
    """A process in the machine's PID namespace."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def apart() -> Iterator[int]:
    """The first of another one."""
    words = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "echo; exec sleep 60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        process.kill()


def arrived(pid: int, *capabilities: str) -> Arrival:
    """Prepared, and not begun."""
    process: Any = SimpleNamespace(pid=pid, begun=False)
    bundle = Bundle("main", capabilities=frozenset(capabilities))
    return Arrival("ab" * 32, Cgroup(Path("/nowhere")), process, 0.0, 0.0, stopped=True, bundle=bundle)


def test_whoever_may_trace_in_the_machines_pid_namespace_acts_through_others(ours: int) -> None:
    assert powers(arrived(ours, "CAP_SYS_PTRACE", "CAP_CHOWN")).fatal == (PTRACE,)
    assert powers(arrived(ours, "CAP_CHOWN")).fatal == ()


def test_and_in_one_of_his_own_through_what_is_executed_there(apart: int) -> None:
    """By a runtime, which comes into that namespace with every capability: `kubectl exec`, a probe, an ephemeral container."""
    assert powers(arrived(apart, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN")).fatal == ("CAP_SYS_ADMIN", PTRACE_WITHIN)
    assert powers(arrived(apart, "CAP_CHOWN")).fatal == ()


def test_the_same_is_told_of_processes_that_run(ours: int, apart: int, tmp_path: Path) -> None:
    """tmp_path: as a cgroup, which lists them."""
    for pid, said in ((ours, PTRACE), (apart, PTRACE_WITHIN)):
        (tmp_path / "cgroup.procs").write_text(f"{pid}\n")
        fatal = Target(Cgroup(tmp_path), pid).fatal()
        assert [each for each in fatal if "PTRACE" in each] == [said]


def test_packets_of_its_own_are_told_apart(apart: int) -> None:
    assert powers(arrived(apart, "CAP_NET_RAW")).raw and powers(arrived(apart, "CAP_NET_RAW")).fatal == ()
    assert not powers(arrived(apart, "CAP_NET_ADMIN")).raw
