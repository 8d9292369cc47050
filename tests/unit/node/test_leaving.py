"""What `leave-node` takes away: of pods, and nothing of a Stockade of the node's own, whose network some pods share."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.sandbox.cgroup import Cgroup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it makes cgroups and a network namespace")
SCRIPT = Path(__file__).resolve().parents[3] / "deploy/docker/leave_node.py"


@pytest.fixture(scope="module")
def leave() -> Any:
    spec = importlib.util.spec_from_file_location("leave_node", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pods() -> Iterator[Cgroup]:
    """A cgroup that is called as those of pods are."""
    made = Cgroup.make(f"left-kubepods-{os.getpid()}")
    yield made
    made.kill()
    while made.populated():
        pass
    made.path.rmdir()


@pytest.fixture
def other() -> Iterator[Cgroup]:
    made = Cgroup.make(f"left-{os.getpid()}")
    yield made
    made.path.rmdir()


def network(pid: int | str) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def test_the_nodes_own_network_is_no_pods(leave: Any, pods: Cgroup) -> None:
    with subprocess.Popen(["sleep", "60"]) as shared, subprocess.Popen(["unshare", "--net", "sleep", "60"]) as apart:
        try:
            while network(apart.pid) == network("self"):
                pass
            pods.add(shared.pid)
            pods.add(apart.pid)
            found = [network(pid) for pid, _ in leave.networks()]
            assert network(apart.pid) in found and network(shared.pid) not in found
        finally:
            shared.kill()
            apart.kill()


def test_of_its_tables_those_of_pods_alone_are_taken_away(leave: Any, pods: Cgroup, other: Cgroup) -> None:
    """An agent of the node's own calls its tables by the number of what it holds, too."""
    names = ["stockade", f"stockade_{pods.id}", f"stockade_{other.id}", "stockade_web", f"other_{pods.id}"]
    assert leave.of_pods(names) == [f"stockade_{pods.id}"]
