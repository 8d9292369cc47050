"""Who may ask a local server now, and who waits: places in the order of arrival. No I/O, and no clock."""

from __future__ import annotations

import asyncio
from collections import deque

from stockade.metrics.figures import Asked
from stockade.privacy.local.form import LocalFailure


class Places:
    """parallel: calls that are answered at once. queue: how many more may wait for a place."""

    def __init__(self, parallel: int, queue: int) -> None:
        self._parallel = self._free = parallel
        self._queue = queue
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return self._parallel - self._free

    async def take(self) -> None:
        """Whoever took a place gives it back. Raises LocalFailure at once where the queue is full."""
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= self._queue:
            raise LocalFailure("too many calls wait for the local model", Asked.QUEUE)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:  # it got its turn at the very moment it went away
                self.give_back()
            raise

    def give_back(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
