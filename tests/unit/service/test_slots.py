"""The lock of a slot: one holder at a time, whoever comes in between, and no file when nobody has it."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from pathlib import Path

import pytest

from stockade.sandbox.cgroup import mounted
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.types import StockadeError

NUMBER = 987_654  # no cgroup of this machine is called so


def cgroups_are_missing() -> bool:
    try:
        mounted()
    except StockadeError:
        return True
    return False


pytestmark = pytest.mark.skipif(cgroups_are_missing(), reason="a slot looks for its cgroup")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "slots").mkdir()
    return dataclasses.replace(Settings(), run=tmp_path)


def seized(settings: Settings) -> Slot | None:
    return Slot.seize(settings, settings.run / "bpf", NUMBER)


def test_one_holds_it_and_nothing_is_left_of_it(settings: Settings) -> None:
    slot = seized(settings)
    assert slot is not None and seized(settings) is None
    slot.beat({"dropped": 3})
    slot.release()
    assert list((settings.run / "slots").iterdir()) == []
    again = seized(settings)
    assert again is not None and again.last_beat() == (0.0, {})
    again.release()


def test_what_is_let_go_of_is_there_for_the_next(settings: Settings) -> None:
    slot = seized(settings)
    assert slot is not None
    slot.beat({"dropped": 3})
    slot.let_go()
    again = seized(settings)
    assert again is not None and again.last_beat()[1] == {"dropped": 3}
    again.release()


def test_who_opened_it_before_it_was_released_holds_the_name_that_is_there(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that hold locks of two files of one name would give one user to two sandboxes."""
    first = seized(settings)
    assert first is not None
    flock, turns = fcntl.flock, list[int]()

    def released_meanwhile(descriptor: int, operation: int) -> None:
        turns.append(descriptor)
        if len(turns) == 1:
            first.release()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", released_meanwhile)
    second = seized(settings)
    assert second is not None and len(turns) == 2
    assert os.fstat(second._lock).st_ino == (settings.run / "slots" / str(NUMBER)).stat().st_ino
    assert seized(settings) is None
    second.release()
