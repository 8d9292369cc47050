"""What is known of a local server: whether it answered lately, and if not, since when and why. No I/O: it is told, with the time."""

from __future__ import annotations

GOOD_FOR = 30.0  # seconds after an answer during which a server is asked without being looked at first
BAD_FOR = 1.0  # seconds during which a server that failed is not looked at again: calls that come meanwhile fail at once


class Health:
    """now: seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._answered: float | None = None
        self._failed: float | None = None
        self._why = ""
        self.up: bool | None = None  # what was seen last

    def good(self, now: float) -> bool:
        return self._answered is not None and now - self._answered < GOOD_FOR

    def bad(self, now: float) -> str:
        """Why it need not be tried now; empty where it may be."""
        return self._why if self._failed is not None and now - self._failed < BAD_FOR else ""

    def answered(self, now: float) -> None:
        self._answered, self._failed, self._why, self.up = now, None, "", True

    def doubt(self) -> None:
        """It failed with one call: the next one looks at it first."""
        self._answered, self.up = None, False

    def failed(self, now: float, why: str) -> None:
        """It is not there, or not ready."""
        self._answered, self._failed, self._why, self.up = None, now, why, False
