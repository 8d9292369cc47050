"""Where a limit goes and what is said of it, on directories that are laid out as cgroup hierarchies. tests/e2e has the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.sandbox import limits
from stockade.sandbox.cgroup import PARENT, Cgroup
from stockade.sandbox.limits import Limits, Wanted
from stockade.types import StockadeError

EVERYTHING = Wanted(pids=100, memory=1 << 30, cpu=1.5)


class Hierarchies:
    """v1: controllers with a hierarchy of their own. v2: those of the unified one; passed_on: those that it may hand down."""

    def __init__(self, root: Path, v1: tuple[str, ...], v2: tuple[str, ...], passed_on: tuple[str, ...] | None = None) -> None:
        unified = root / "unified"
        self.cgroup = Cgroup(unified / PARENT / "sandbox-1")
        self.cgroup.path.mkdir(parents=True)
        for place, words in ((unified, v2), (unified / PARENT, v2), (self.cgroup.path, v2 if passed_on is None else passed_on)):
            (place / "cgroup.controllers").write_text(" ".join(words) + "\n")
            (place / "cgroup.subtree_control").write_text("")
        lines = [f"41 31 0:38 / {unified} rw,relatime - cgroup2 cgroup2 rw"]
        self.v1 = {}
        for number, name in enumerate(v1):
            self.v1[name] = root / name
            (root / name).mkdir()
            lines.append(f"{50 + number} 31 0:{60 + number} / {root / name} rw,relatime - cgroup cgroup rw,{name},{name}acct")
        self.mountinfo = root / "mountinfo"
        self.mountinfo.write_text("\n".join(["22 1 8:1 / / rw shared:1 - ext4 /dev/vda rw", *lines]) + "\n")

    def impose(self, wanted: Wanted, *, best_effort: bool = False) -> Limits:
        return Limits.impose(self.cgroup, wanted, best_effort=best_effort, mountinfo=self.mountinfo)

    def v1_file(self, controller: str, name: str) -> str:
        return (self.v1[controller] / PARENT / "sandbox-1" / name).read_text()


def test_in_the_v2_hierarchy_the_sandboxs_own_cgroup_is_limited(tmp_path: Path) -> None:
    made = Hierarchies(tmp_path, (), limits.CONTROLLERS)
    (made.cgroup.path / "memory.swap.max").write_text("max")
    found = made.impose(EVERYTHING)
    read = {name: (made.cgroup.path / name).read_text() for name in ("pids.max", "memory.max", "memory.swap.max", "cpu.max")}
    assert read == {"pids.max": "101", "memory.max": str(1 << 30), "memory.swap.max": "0", "cpu.max": "150000 100000"}
    assert found.joins == [] and found.processes is None
    assert found.said == ["pids 100", f"memory {1 << 30}", "cpu 1.5"]


def test_controllers_are_handed_down_from_the_root(tmp_path: Path) -> None:
    made = Hierarchies(tmp_path, (), limits.CONTROLLERS)
    made.impose(Wanted(memory=1 << 30))
    for place in (tmp_path / "unified", tmp_path / "unified" / PARENT):
        assert (place / "cgroup.subtree_control").read_text() in ("+pids", "+memory")
    assert (made.cgroup.path / "cgroup.subtree_control").read_text() == "", "what is below the sandbox's cgroup is nobody's"


def test_a_v1_hierarchy_comes_first_and_is_one_more_to_join(tmp_path: Path) -> None:
    """A controller is in one hierarchy only; where it is mounted as v1, the other cannot have it."""
    made = Hierarchies(tmp_path, ("memory", "cpu"), ("pids",))
    (tmp_path / "memory" / PARENT / "sandbox-1").mkdir(parents=True)
    (tmp_path / "memory" / PARENT / "sandbox-1" / "memory.memsw.limit_in_bytes").write_text("")
    found = made.impose(EVERYTHING)
    assert (made.cgroup.path / "pids.max").read_text() == "101"
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        assert made.v1_file("memory", name) == str(1 << 30)
    assert (made.v1_file("cpu", "cpu.cfs_quota_us"), made.v1_file("cpu", "cpu.cfs_period_us")) == ("150000", "100000")
    assert found.joins == [tmp_path / name / PARENT / "sandbox-1" / "cgroup.procs" for name in ("memory", "cpu")]


@pytest.mark.parametrize("controller", limits.CONTROLLERS)
def test_a_controller_that_is_not_there_or_not_handed_down_is_refused(tmp_path: Path, controller: str) -> None:
    others = tuple(name for name in limits.CONTROLLERS if name != controller)
    for number, made in enumerate((Hierarchies(tmp_path / "a", (), others), Hierarchies(tmp_path / "b", (), limits.CONTROLLERS, others))):
        with pytest.raises(StockadeError) as refused:
            made.impose(EVERYTHING)
        assert refused.value.code == "no_limit" and f"process.{controller}" in refused.value.message, number
        found = made.impose(EVERYTHING, best_effort=True)
        said = {"pids": "pids 100 by RLIMIT_NPROC"}.get(controller, f"{controller} missing, best effort")
        assert said in found.said and len(found.said) == 3
        assert found.processes == (101 if controller == "pids" else None)


def test_the_limit_that_every_sandbox_has_is_never_a_reason_not_to_start(tmp_path: Path) -> None:
    assert Hierarchies(tmp_path / "with", ("pids",), ()).impose(Wanted()).said == ["pids 4096 by default"]
    found = Hierarchies(tmp_path / "without", (), ()).impose(Wanted())
    assert (found.said, found.processes) == (["pids 4096 by RLIMIT_NPROC"], 4097)


def test_what_a_limit_stopped_is_told_once(tmp_path: Path) -> None:
    made = Hierarchies(tmp_path, ("pids",), ("memory",))
    found = made.impose(EVERYTHING, best_effort=True)
    assert found.struck() == {}
    (tmp_path / "pids" / PARENT / "sandbox-1" / "pids.events").write_text("max 7\n")
    (made.cgroup.path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n")
    assert found.struck() == {"pids": 7, "memory": 2}
    assert found.struck() == {}
    (made.cgroup.path / "memory.events").write_text("oom_kill 3\n")
    assert found.struck() == {"memory": 1}


def test_where_the_controllers_are(tmp_path: Path) -> None:
    made = Hierarchies(tmp_path, ("memory",), ("pids", "hugetlb"))
    assert limits.places(made.mountinfo) == {"memory": f"v1 at {tmp_path / 'memory'}", "pids": f"v2 at {tmp_path / 'unified'}"}
