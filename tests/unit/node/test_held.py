"""A pod that cannot be closed at once is closed later, and what is wrong is said meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stockade.node import held, trust
from stockade.node.attached import Joining
from stockade.node.container import Bundle
from stockade.node.held import HeldPod
from stockade.node.pod import Pod, Standing, Wanted
from stockade.node.powers import Powers
from stockade.node.station import Pods
from stockade.sandbox.cgroup import Cgroup


class Kernel:
    """govern: refused a number of times."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.governed = refusals, list[Path]()
        self.maps = SimpleNamespace(gate=lambda _cgroup, _level: None, ungate=lambda _cgroup: None)

    def govern(self, cgroup: Path, _pins: Path) -> list[object]:
        if self.refusals:
            self.refusals -= 1
            raise OSError(12, "Cannot allocate memory")
        self.governed.append(cgroup)
        return [object()]


def test_a_pod_that_cannot_be_closed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "AGAIN", 0.02)
    monkeypatch.setattr(Cgroup, "level", 1)
    kernel, told = Kernel(3), list[Standing]()
    pods: Any = SimpleNamespace(bpffs=tmp_path, life="1-x", station=SimpleNamespace(kernel=kernel), tell=told.append, ending=True)

    async def main() -> None:
        pod = HeldPod(cast(Pods, pods), "uid", Cgroup(tmp_path), new=True)
        assert not kernel.governed
        pod.want(Wanted(Pod("uid", "default", "web", host_network=True), (), "1"))
        for _ in range(1500):
            if told and told[-1].state == "refused":
                break
            await asyncio.sleep(0.01)
        await pod.end()

    asyncio.run(main())
    assert [each.state for each in told] == ["failed", "failed", "refused"]
    assert "Cannot allocate memory" in told[0].why and kernel.governed == [tmp_path]


def test_containers_without_a_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes one past the kubelet gives it none (`ctr run`): what was said of one stood in the place of another's."""
    monkeypatch.setattr(Cgroup, "level", 1)
    kernel, told = Kernel(0), list[Standing]()
    pods: Any = SimpleNamespace(bpffs=tmp_path, life="1-x", station=SimpleNamespace(kernel=kernel), tell=told.append, ending=True)
    pods.keep, pods.taken_over = (lambda work: work.close()), (lambda: None)

    class Attached:
        governed = SimpleNamespace(policy=SimpleNamespace(generation=1))

        async def join(self, found: Any, _image: str) -> Joining:
            name = found.bundle.name or found.identity[:12]
            return Joining(name, 0, (f"{name} keeps CAP_SYS_ADMIN",) if found.identity.startswith("a") else (), ())

    async def main() -> None:
        pod = HeldPod(cast(Pods, pods), "uid", Cgroup(tmp_path), new=True)
        attached: Any = Attached()
        pod._attachment, pod._wanted = attached, Wanted(Pod("uid", "default", "web"), (tmp_path,), "1")
        for digit in "ab":
            found: Any = SimpleNamespace(identity=digit * 64, bundle=Bundle())
            await pod._join(attached, found)
        await pod.end()

    asyncio.run(main())
    assert told[-1].unheld == ("aaaaaaaaaaaa keeps CAP_SYS_ADMIN",) and told[-1].gaps_us == {"a" * 12: 0, "b" * 12: 0}


def test_one_that_came_just_before_somebody_governs_its_pod_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done for a container of nobody's takes a moment. Whoever begins to govern the pod in it takes up those that are done."""
    monkeypatch.setattr(Cgroup, "level", 1)
    monkeypatch.setattr(held, "powers", lambda _found: Powers())
    maps = SimpleNamespace(**dict.fromkeys(("gate", "ungate", "let_begin"), lambda *_: None))
    kernel = SimpleNamespace(maps=maps, govern=lambda *_: [object()], take_off=lambda _: None)
    pods: Any = SimpleNamespace(bpffs=tmp_path, life="1-x", station=SimpleNamespace(kernel=kernel), tell=lambda _: None, ending=False)
    pods.keep, pods.taken_over = (lambda work: work.close()), (lambda: None)
    joined = list[str]()

    class Attached:
        governed = SimpleNamespace(policy=SimpleNamespace(generation=1), places=dict[int, Any]())

        async def join(self, found: Any, _image: str) -> Joining:
            joined.append(found.identity)
            self.governed.places[1] = found
            return Joining("debug", 0, (), ())

    async def arrival(identity: str, _cgroup: Cgroup) -> Any:
        async def begin() -> None:
            """It has."""

        nothing = SimpleNamespace(identity=identity, bundle=Bundle("debug"), process=SimpleNamespace(pid=0), begin=begin)
        nothing.go_on = nothing.thaw = lambda: None
        return nothing

    monkeypatch.setattr(held, "arrival", arrival)

    async def main() -> None:
        pod = HeldPod(cast(Pods, pods), "uid", Cgroup(tmp_path), new=False)
        pod.leave()
        monkeypatch.setattr(pod, "_volume", lambda: tmp_path)
        attached: Any = Attached()

        def give(_volume: Path) -> None:
            pod._attachment, pod._wanted = attached, Wanted(Pod("uid", "default", "web"), (tmp_path,), "1")

        monkeypatch.setattr(trust, "give", give)
        pod.container_came("ab" * 32, Cgroup(tmp_path))
        for _ in range(1500):
            if joined:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        pods.ending = True
        await pod.end()

    asyncio.run(main())
    assert joined == ["ab" * 32], "once"
