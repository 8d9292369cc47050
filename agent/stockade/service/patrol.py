"""The rounds of an agent: what it looks at again and again, whatever happens, for all of its sandboxes in one go.

Twice a second what holds them, and the files of their policies; once a second what they ran into, and what has expired. A task, a timer and
a thread for each look of each sandbox would cost a daemon of 200 a fifth of a core. Decides nothing, and a look that fails is no reason not
to take the next: what it means is for the one whose look it is to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stockade.service.watch import SECONDS, Signature, Watch, signature

log = logging.getLogger(__name__)

EVERY = 0.5  # seconds between two looks at what holds the sandboxes; 25 links are looked at in a third of a millisecond
AT_ONCE = 32  # sandboxes, some 20 µs each: then whoever else waits for the loop has a turn
PATIENCE = 5.0  # seconds for a look at files: those of a network mount whose server is gone never answer


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
    """every: seconds between two looks of the seldom kind."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._beats: set[Beat] = set()
        self._stuck: set[Path] = set()  # files that do not answer: whose policy they are part of is not looked at

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
        for walk in (self._walk(EVERY, lambda beat: beat.often), self._walk(self._every, lambda beat: beat.seldom), self._read()):
            stack.callback(asyncio.create_task(walk).cancel)

    async def _walk(self, every: float, look_of: Callable[[Beat], Callable[[], None]]) -> None:
        while True:
            await asyncio.sleep(every)
            for turn, beat in enumerate(list(self._beats), 1):
                if turn % AT_ONCE == 0:
                    await asyncio.sleep(0)
                if beat in self._beats:  # it has not ended meanwhile
                    _take(look_of(beat))

    async def _read(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            turn = _Turn([beat for beat in self._beats if self._stuck.isdisjoint(beat.watch.watched)])
            looking = asyncio.ensure_future(asyncio.to_thread(turn.look))
            await asyncio.wait({looking}, timeout=PATIENCE)
            if looking.done():
                for beat in looking.result():
                    if beat in self._beats:
                        _take(beat.changed)
            elif (stuck := turn.at) is not None:
                turn.over = True
                self._stuck.add(stuck)
                looking.add_done_callback(functools.partial(self._unstuck, stuck))
                log.error("%s does not answer; policies that it is part of are not looked at until it does", stuck)

    def _unstuck(self, path: Path, _looking: object) -> None:
        self._stuck.discard(path)


class _Turn:
    """One look at all files, in a thread: at each once, however many policies it is part of. at: what is looked at now."""

    def __init__(self, beats: Iterable[Beat]) -> None:
        self._beats = beats
        self.at: Path | None = None
        self.over = False  # set by whoever does not wait any longer

    def look(self) -> list[Beat]:
        """Those that changed."""
        found = functools.cache(self._look)
        changed = []
        for beat in self._beats:
            if self.over:
                break
            if _take(functools.partial(beat.watch.look, found)):
                changed.append(beat)
        return changed

    def _look(self, path: Path) -> Signature:
        self.at = path
        return signature(path)


def _take[T](look: Callable[[], T]) -> T | None:
    """One that fails is no reason not to take the next."""
    try:
        return look()
    except Exception:
        log.exception("a look failed")
        return None
