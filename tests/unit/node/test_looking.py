"""Looking for pods goes on after what goes wrong: one that nobody sees is not held."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stockade.node import places
from stockade.node.places import Places
from stockade.sandbox.cgroup import Cgroup

ONE, OTHER = "4a7de2fb-4197-4693-a2e7-19e36cb8d0a6", "5b8ef30c-4197-4693-a2e7-19e36cb8d0a7"


class Told:
    def __init__(self) -> None:
        self.came: list[str] = []
        self.refuses = 0

    def pod_came(self, uid: str, _cgroup: Cgroup) -> None:
        if self.refuses:
            self.refuses -= 1
            raise ValueError("nobody expected this")
        self.came.append(uid)

    def pod_went(self, uid: str) -> None:
        self.came.remove(uid)

    def container_came(self, uid: str, identity: str, cgroup: Cgroup) -> None:
        raise AssertionError

    container_went = container_came  # type: ignore[assignment]


async def until_told(told: Told, uid: str) -> None:
    for _ in range(3000):
        if uid in told.came:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{uid} was not told: {told.came}")


def test_a_pod_that_comes_without_room_for_a_watch_is_found_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """inotify has a limit for each user (max_user_watches), which others use up."""
    monkeypatch.setattr(places, "AGAIN", 0.05)
    (tmp_path / "kubepods").mkdir()
    told = Told()

    async def main() -> None:
        looking = Places(told, tmp_path)
        task = asyncio.create_task(looking.watch())
        await asyncio.sleep(0)
        add, refused = looking._watcher.add, list[Path]()

        def full(path: Path) -> None:
            if len(refused) < 3:
                refused.append(path)
                raise OSError(28, "No space left on device")
            add(path)

        monkeypatch.setattr(looking._watcher, "add", full)
        (tmp_path / "kubepods" / f"pod{ONE}").mkdir()
        await until_told(told, ONE)
        assert len(refused) == 3
        (tmp_path / "kubepods" / f"pod{OTHER}").mkdir()
        await until_told(told, OTHER)
        task.cancel()

    asyncio.run(main())


def test_a_pod_that_cannot_be_taken_is_not_the_last_that_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "AGAIN", 0.05)
    (tmp_path / "kubepods").mkdir()
    told = Told()

    async def main() -> None:
        task = asyncio.create_task(Places(told, tmp_path).watch())
        await asyncio.sleep(0)
        told.refuses = 1
        (tmp_path / "kubepods" / f"pod{ONE}").mkdir()
        await until_told(told, ONE)
        (tmp_path / "kubepods" / f"pod{OTHER}").mkdir()
        await until_told(told, OTHER)
        task.cancel()

    asyncio.run(main())
