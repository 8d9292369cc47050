"""One agent for one cgroup; what is left of a container that has ended is swept, of one that lives it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stockade.attach import berth
from stockade.sandbox.cgroup import Cgroup
from stockade.types import StockadeError


@pytest.fixture
def left(tmp_path: Path) -> tuple[Path, Path, Cgroup]:
    """Directory of locks, bpffs, and a cgroup whose agent was killed: directories like any others, here."""
    for name in ("attached", "bpf", "container"):
        (tmp_path / name).mkdir()
    cgroup = Cgroup(tmp_path / "container")
    (tmp_path / "attached" / str(cgroup.id)).write_text(str(cgroup.path))
    pins = tmp_path / "bpf" / f"{berth.pins_of(cgroup.id)}77"
    pins.mkdir()
    (pins / "link").touch()
    bundles = berth.bundles_of(tmp_path / "attached", cgroup.id)
    bundles.mkdir()
    (bundles / "0").touch()
    berth.order_of(tmp_path / "attached", cgroup.id).touch()
    berth.authority_of(tmp_path / "attached", cgroup.id).touch()
    return tmp_path / "attached", tmp_path / "bpf", cgroup


def test_there_is_one_agent_at_a_time(left: tuple[Path, Path, Cgroup]) -> None:
    directory, bpffs, cgroup = left
    with berth.taken(directory, bpffs, cgroup, "web"):
        with pytest.raises(StockadeError, match="web is governed already"), berth.taken(directory, bpffs, cgroup, "web"):
            pass
        assert (directory / str(cgroup.id)).read_text() == str(cgroup.path)
    assert (directory / str(cgroup.id)).exists(), "what a dead agent left still holds it"
    with berth.taken(directory, bpffs, cgroup, "web"):
        for pins in berth.left_on(bpffs, cgroup.id):
            shutil.rmtree(pins)
    assert not list(directory.iterdir())
    with berth.taken(directory, bpffs, cgroup, "web"):
        pass


def test_what_holds_a_container_that_lives_stays(left: tuple[Path, Path, Cgroup]) -> None:
    directory, bpffs, _ = left
    berth.sweep(directory, bpffs)
    assert len(list(bpffs.iterdir())) == 1
    assert len(list(directory.iterdir())) == 4


def test_what_is_left_of_one_that_ended_goes(left: tuple[Path, Path, Cgroup]) -> None:
    directory, bpffs, cgroup = left
    another = f"{berth.pins_of(cgroup.id + 1)}8"
    (bpffs / another).mkdir()
    cgroup.path.rmdir()
    berth.sweep(directory, bpffs)
    assert [path.name for path in bpffs.iterdir()] == [another]
    assert list(directory.iterdir()) == []


def test_but_not_while_its_agent_is_about_to_end(left: tuple[Path, Path, Cgroup]) -> None:
    directory, bpffs, cgroup = left
    with berth.taken(directory, bpffs, cgroup, "web"):
        cgroup.path.rmdir()
        berth.sweep(directory, bpffs)
        assert len(list(bpffs.iterdir())) == 1
