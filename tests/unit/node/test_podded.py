"""A pod's containers under a policy that names other files: all of them or none, and one that has just ended is in nobody's way."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from stockade.attach.device import Closed
from stockade.kernel import abi
from stockade.kernel.maps import Maps
from stockade.node.podded import Place, Podded
from stockade.policy import Policy
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.roster import Roster
from stockade.types import Sandbox, StockadeError
from unit.service.samples import NUMBER, POLICY, FakeMaps, policy, roster


class PodMaps(FakeMaps):
    def switch(self, sandbox: int, cgroup_id: int, generation: int, flags: abi.SandboxFlag, *, place: int = 0, outside: int = 0) -> None:
        super().switch(sandbox, cgroup_id, generation, flags)

    def strike(self, sandbox: int, _facts: abi.FileFacts) -> None:
        assert sandbox == NUMBER

    def look_at(self, _level: int) -> None:
        """There is one level."""


class Drawn:
    """What a container's rosters were drawn up for."""

    def __init__(self) -> None:
        self.policies: list[int] = []
        self.fails = False

    def __call__(self, wanted: Policy) -> Roster:
        if self.fails:
            raise StockadeError("its files cannot be seen")
        self.policies.append(wanted.generation)
        return roster()


class Scene:
    def __init__(self, directory: Path, maps: FakeMaps) -> None:
        self.directory = directory
        loaded = policy(directory, POLICY)
        sandbox = Sandbox("id", "box", loaded.name, 1)
        device = cast(Closed, None)
        self.pod = Podded(NUMBER, sandbox, Cgroup(directory), loaded, cast(Maps, maps), abi.Network(), device, shared=True)
        self.pod.compile(loaded)
        self.following = policy(directory, POLICY.replace("allow: [curl, git, ls]", "allow: [curl, git]"), 2)
        self.drawn: list[Drawn] = []

    def join(self, name: str, monkeypatch: pytest.MonkeyPatch) -> Drawn:
        directory, drawn = self.directory / name, Drawn()
        directory.mkdir()
        (directory / "cgroup.events").write_text("populated 1\n")
        monkeypatch.setattr(Cgroup, "level", 1)
        self.drawn.append(drawn)
        self.pod.join(Place(len(self.drawn), name, "", name, Cgroup(directory), directory.stat().st_ino, 0, drawn))
        return drawn


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, PodMaps())


def test_every_container_is_looked_at_again_for_other_names(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = scene.join("one", monkeypatch), scene.join("other", monkeypatch)
    scene.pod.compile(scene.following)
    assert one.policies == other.policies == [1, 2]


def test_one_that_has_just_ended_is_in_nobodys_way(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, other = scene.join("ended", monkeypatch), scene.join("other", monkeypatch)
    ended.fails = True
    (scene.directory / "ended" / "cgroup.events").write_text("populated 0\n")
    scene.pod.compile(scene.following)
    assert other.policies == [1, 2]


def test_what_cannot_be_had_of_one_is_had_of_none(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be executed stays that of the policy in force."""
    one, other = scene.join("one", monkeypatch), scene.join("other", monkeypatch)
    other.fails = True
    with pytest.raises(StockadeError, match="cannot be seen"):
        scene.pod.compile(scene.following)
    assert one.policies == [1, 2, 1]
    other.fails = False
    scene.pod.compile(scene.following)
    assert one.policies == [1, 2, 1, 2] and other.policies == [1, 2]


def test_what_does_not_fit_into_the_kernel_is_not_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = PodMaps()
    scene = Scene(tmp_path, maps)
    one = scene.join("one", monkeypatch)
    scene.pod.table.allocate("api.example.com")
    monkeypatch.setattr(maps, "_room", 0)
    with pytest.raises(OSError, match="map full"):
        scene.pod.compile(scene.following)
    assert one.policies == [1, 2, 1]
