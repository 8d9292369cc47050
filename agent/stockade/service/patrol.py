"""The rounds of an agent: what it looks at again and again, whatever happens, for all of its sandboxes in one go.

Twice a second what holds them, and the files of their policies; once a second what they ran into, and what has expired. Where most of what
holds them is common to all, that alone is looked at twice a second, and what each has of its own once: a system call costs more than all
that is done with its answer. A task, a timer and a thread for each look of each sandbox would cost a daemon of 200 a fifth of a core.
Decides nothing, and a look that fails is no reason not to take the next: what it means is for the one whose look it is to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stockade.service.watch import SECONDS, Files, Signature, Watch, signature

log = logging.getLogger(__name__)

EVERY = 0.5  # seconds between two looks at what holds the sandboxes; 25 links are looked at in a third of a millisecond
AT_ONCE = 32  # sandboxes, some 20 µs each: then whoever else waits for the loop has a turn
PATIENCE = 5.0  # seconds for a look at files: those of a network mount whose server is gone never answer
AGAIN = 15.0  # seconds after its answer in which such a file is not looked at: it may be as slow the next time, and the others go first


@dataclass(frozen=True, slots=True, eq=False)
class Beat:
    """One sandbox's. watch: of its policy's files. changed: told on the loop when they are others, again at each look until they are read.

    often: looks at what holds it. seldom: at all that can wait for a second.
    """

    watch: Watch
    changed: Callable[[], object]
    often: Callable[[], None]
    seldom: Callable[[], None]


class Patrol:
    """every: seconds between two looks of the seldom kind.

    common: whether what holds all of them still does. While it says so, each is looked at often no oftener than seldom. None: each has all
    that holds it to itself.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self.common: Callable[[], bool] | None = None
        self._beats: set[Beat] = set()
        self._stuck: frozenset[Path] = frozenset()  # files that do not answer: whose policy they are part of is not looked at

    @contextlib.contextmanager
    def walking(self, beat: Beat) -> Iterator[None]:
        """As long as its sandbox runs."""
        self._beats.add(beat)
        try:
            yield
        finally:
            self._beats.discard(beat)

    def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """On the running loop. What is to be undone goes onto the stack."""
        self._loop = asyncio.get_running_loop()
        for walk in (self._hold(), self._visit()):
            stack.callback(asyncio.create_task(walk).cancel)
        self._read()
        stack.callback(lambda: self._reader.leave())

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            _take(self._hurry)
            if self._beats and (self.common is None or not _take(self.common)):
                await self._walk(lambda beat: beat.often())

    async def _visit(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._walk(_look if self.common is None else _look_at_all)

    async def _walk(self, look: Callable[[Beat], None]) -> None:
        for turn, beat in enumerate(list(self._beats), 1):
            if turn % AT_ONCE == 0:
                await asyncio.sleep(0)
            if beat in self._beats:  # it has not ended meanwhile
                _take(functools.partial(look, beat))

    # the files, in a thread

    def _read(self) -> None:
        reader = _Reader(self)
        reader.start()
        self._reader = reader

    def readable(self) -> list[Beat]:
        """Whose files are to be looked at now. In the reader's thread."""
        stuck = self._stuck
        return [beat for beat in list(self._beats) if not stuck or stuck.isdisjoint(beat.watch.watched)]

    def tell(self, changed: Iterable[Beat]) -> None:
        """Theirs are other ones. In the reader's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._told, changed)

    def answers(self, path: Path) -> None:
        """At last. In the thread that waited for it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.call_later, AGAIN, self._unstuck, path)

    def _told(self, changed: Iterable[Beat]) -> None:
        for beat in changed:
            if beat in self._beats:
                _take(beat.changed)

    def _hurry(self) -> None:
        """Another reader for the others, where one waits for a file."""
        if (stuck := self._reader.leave_behind()) is not None:
            self._stuck |= {stuck}
            log.error("%s does not answer; policies that it is part of are not looked at until it does", stuck)
            self._read()
        elif not self._reader.is_alive():  # no other could be started then
            self._read()

    def _unstuck(self, path: Path) -> None:
        self._stuck -= {path}


class _Reader(threading.Thread):
    """Looks at the files of all again and again, in a thread of its own that tells the loop nothing but changes: to have a thread begin and
    to be told that it is done would cost more than the looks. It is nobody's to wait for: what it looks at may never answer."""

    def __init__(self, patrol: Patrol) -> None:
        super().__init__(name="files", daemon=True)
        self._patrol = patrol
        self._ended = threading.Event()
        self._turn: tuple[_Turn, float] | None = None  # the one under way, and since when
        self._behind: Path | None = None

    def run(self) -> None:
        while not self._ended.wait(SECONDS):
            turn = _Turn(self._patrol.readable())
            self._turn = turn, time.monotonic()
            changed = turn.look()
            self._turn = None
            if changed:
                self._patrol.tell(changed)
        if self._behind is not None:
            self._patrol.answers(self._behind)

    def leave(self) -> None:
        """It ends as soon as it has an answer."""
        self._ended.set()

    def leave_behind(self) -> Path | None:
        """Where it has waited too long, for which file."""
        if (under_way := self._turn) is None:
            return None
        turn, since = under_way
        if turn.at is None or time.monotonic() - since < PATIENCE:
            return None
        turn.over, self._behind = True, turn.at
        self.leave()
        return self._behind


class _Turn:
    """One look at all files, in a thread: at each once, however many policies it is part of. at: what is looked at now."""

    def __init__(self, beats: Iterable[Beat]) -> None:
        self._beats = beats
        self.at: Path | None = None
        self.over = False  # set by whoever does not wait any longer

    def look(self) -> list[Beat]:
        """Those that changed."""
        found = functools.cache(self._look)
        unchanged: dict[Files, bool] = {}
        changed = []
        for beat in self._beats:
            if self.over:
                break
            if (files := beat.watch.calm) is not None:
                if files not in unchanged:
                    unchanged[files] = bool(_take(functools.partial(files.unchanged, found)))
                if unchanged[files]:
                    continue
            if _take(functools.partial(beat.watch.look, found)):
                changed.append(beat)
        return changed

    def _look(self, path: Path) -> Signature:
        self.at = path
        return signature(path)


def _look(beat: Beat) -> None:
    beat.seldom()


def _look_at_all(beat: Beat) -> None:
    _take(beat.often)
    beat.seldom()


def _take[T](look: Callable[[], T]) -> T | None:
    """One that fails is no reason not to take the next."""
    try:
        return look()
    except Exception:
        log.exception("a look failed")
        return None
