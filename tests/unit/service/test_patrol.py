"""The rounds of an agent: everybody is looked at, and nobody keeps the others from it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stockade.service import patrol as module
from stockade.service.patrol import Beat, Patrol
from stockade.service.watch import Signature, Watch, signature


class Box:
    """A sandbox, as far as rounds know one. It reads its files again when it is told that they are others."""

    def __init__(self, *paths: Path) -> None:
        self.watch, self.paths = Watch(), paths
        self.often = self.seldom = self.changes = 0
        self.read()

    def read(self) -> None:
        with self.watch.reading() as named:
            named += self.paths

    def beat(self) -> Beat:
        def changed() -> None:
            self.changes += 1
            self.read()

        def often() -> None:
            self.often += 1

        def seldom() -> None:
            self.seldom += 1

        return Beat(self.watch, changed, often, seldom)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.005)
    monkeypatch.setattr(module, "SECONDS", 0.005)


def walk(beats: list[Beat], until: Callable[[Patrol], Awaitable[None]]) -> None:
    async def work() -> None:
        patrol = Patrol(0.005)
        async with asyncio.timeout(20), contextlib.AsyncExitStack() as stack:
            patrol.begin(stack)
            for beat in beats:
                stack.enter_context(patrol.walking(beat))
            await until(patrol)

    asyncio.run(work())


async def seen(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def old(path: Path) -> Path:
    """A file that was written some time ago."""
    path.write_text("a")
    os.utime(path, ns=(1, 1))
    return path


def test_everybody_is_looked_at_and_told_of_their_own_files(tmp_path: Path) -> None:
    first, second = Box(old(tmp_path / "first")), Box(old(tmp_path / "second"))

    async def until(_patrol: Patrol) -> None:
        await seen(lambda: min(first.often, first.seldom, second.often, second.seldom) > 3)
        assert (first.changes, second.changes) == (0, 0)
        (tmp_path / "second").write_text("b")
        await seen(lambda: second.changes == 1)
        (tmp_path / "second").unlink()
        await seen(lambda: second.changes == 2)
        assert first.changes == 0

    walk([first.beat(), second.beat()], until)


def test_what_holds_all_of_them_is_looked_at_for_all_at_once_and_each_when_that_does_not_hold(tmp_path: Path) -> None:
    first, second = Box(old(tmp_path / "first")), Box(old(tmp_path / "second"))
    looks, holds = [0], [True]

    def common() -> bool:
        looks[0] += 1
        if holds[0] is None:
            raise OSError("it cannot be seen")
        return holds[0]

    async def until(patrol: Patrol) -> None:
        patrol.common = common
        await seen(lambda: first.seldom > 3 and looks[0] > 3)
        before = [box.often - box.seldom for box in (first, second)]
        await seen(lambda: first.seldom > 8 and second.seldom > 8)
        assert [box.often - box.seldom for box in (first, second)] == before, "each once, beside what can wait"
        for lost in (False, None):
            holds[0] = lost
            ahead = first.often - first.seldom, second.often - second.seldom
            await seen(lambda ahead=ahead: first.often - first.seldom > ahead[0] + 3 and second.often - second.seldom > ahead[1] + 3)

    walk([first.beat(), second.beat()], until)


def test_who_has_ended_is_not_looked_at(tmp_path: Path) -> None:
    box, other = Box(old(tmp_path / "file")), Box()

    async def until(patrol: Patrol) -> None:
        with patrol.walking(box.beat()):
            await seen(lambda: box.often > 0)
        often, seldom = box.often, box.seldom
        (tmp_path / "file").write_text("b")
        after = other.often
        await seen(lambda: other.often > after + 5)
        assert (box.often, box.seldom, box.changes) == (often, seldom, 0)

    walk([other.beat()], until)


def test_a_look_that_fails_is_not_the_end_of_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("it cannot be seen")

    def fails_for_one(path: Path) -> Signature:
        if path.name == "fails":
            raise ValueError("no name of a file")
        return signature(path)

    broken, unread, box = Box(old(tmp_path / "broken")), Box(old(tmp_path / "fails")), Box(old(tmp_path / "file"))
    monkeypatch.setattr(module, "signature", fails_for_one)

    async def until(_patrol: Patrol) -> None:
        for name in ("broken", "fails", "file"):
            (tmp_path / name).write_text("b")
        await seen(lambda: box.often > 3 and box.seldom > 3 and box.changes == 1)
        (tmp_path / "file").write_text("longer")
        await seen(lambda: box.changes == 2)
        assert unread.changes == 0 and unread.often > 3

    walk([Beat(broken.watch, fails, fails, fails), unread.beat(), box.beat()], until)


def test_a_file_of_many_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = old(tmp_path / "shared")
    boxes = [Box(shared, old(tmp_path / f"own-{number}")) for number in range(5)]
    looks: dict[Path, int] = {}

    def counted(path: Path) -> Signature:
        looks[path] = looks.get(path, 0) + 1
        return signature(path)

    turn = module._Turn([box.beat() for box in boxes])
    monkeypatch.setattr(module, "signature", counted)
    assert turn.look() == []
    assert looks == {shared: 1, **{tmp_path / f"own-{number}": 1 for number in range(5)}}


def test_a_file_system_that_does_not_answer_keeps_nobody_else_from_being_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "AGAIN", 0.05)
    dead, answers = old(tmp_path / "dead"), threading.Event()
    boxes = [Box(dead), Box(dead), *(Box(old(tmp_path / f"{number}")) for number in range(4))]

    def hangs(path: Path) -> Signature:
        if path == dead:
            assert answers.wait(15)
        return signature(path)

    monkeypatch.setattr(module, "signature", hangs)

    async def until(_patrol: Patrol) -> None:
        for box in boxes[2:]:
            box.paths[0].write_text("b")
        await seen(lambda: all(box.changes == 1 for box in boxes[2:]))
        dead.write_text("b")
        answers.set()
        await seen(lambda: all(box.changes == 1 for box in boxes))

    walk([box.beat() for box in boxes], until)


def test_a_file_that_answers_too_late_again_and_again_does_not_keep_the_others_from_being_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "SECONDS", 0.2)
    late = old(tmp_path / "late")
    boxes = [Box(late), *(Box(old(tmp_path / f"{number}")) for number in range(4))]

    def dawdles(path: Path) -> Signature:
        if path == late:
            time.sleep(0.1)  # too long; and it has answered before the next reader's first turn
        return signature(path)

    monkeypatch.setattr(module, "signature", dawdles)

    async def until(_patrol: Patrol) -> None:
        for box in boxes[1:]:
            box.paths[0].write_text("b")
        await seen(lambda: all(box.changes == 1 for box in boxes[1:]))

    walk([box.beat() for box in boxes], until)


def test_what_is_being_read_is_not_looked_at(tmp_path: Path) -> None:
    watch = Watch()
    file = old(tmp_path / "file")
    with watch.reading() as named:
        named.append(file)
    file.write_text("b")
    with watch.reading() as named:
        assert not watch.look()
        named.append(file)
    os.utime(file, ns=(1, 1))
    assert [watch.look(), watch.look()] == [False, True]
