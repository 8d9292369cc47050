"""Until when the request is waited for that this thread reads, and the end of reading when that is over.

No text is cut into pieces for it: every loop whose length the text decides asks here as it goes round, so what goes on after the deadline
is one step of one of them, which is linear in the text.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Late(Exception):
    """Nobody waits for this any more."""


class _Deadline(threading.local):
    at: float = math.inf


_deadline = _Deadline()


@contextmanager
def until(at: float) -> Iterator[None]:
    """at: of time.monotonic(). For this thread, and nothing that others ask of it meanwhile."""
    before, _deadline.at = _deadline.at, at
    try:
        yield
    finally:
        _deadline.at = before


def keep() -> None:
    """Raises Late when it is over."""
    if time.monotonic() > _deadline.at:
        raise Late


def carried[Result](work: Callable[[], Result]) -> Callable[[], Result]:
    """The same work under the deadline of this thread, to be done by another."""
    at = _deadline.at

    def under() -> Result:
        with until(at):
            return work()

    return under
