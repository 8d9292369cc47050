"""By what a container could get out of what holds it, told before its first instruction: what its runtime was told, and where it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stockade.attach.target import PTRACE
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


def test_and_finds_nobody_else_in_one_of_his_own(apart: int) -> None:
    assert powers(arrived(apart, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN")).fatal == ("CAP_SYS_ADMIN",)


def test_packets_of_its_own_are_told_apart(apart: int) -> None:
    assert powers(arrived(apart, "CAP_NET_RAW")).raw and powers(arrived(apart, "CAP_NET_RAW")).fatal == ()
    assert not powers(arrived(apart, "CAP_NET_ADMIN")).raw
