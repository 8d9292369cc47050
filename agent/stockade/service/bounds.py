"""What a running sandbox ran into: forks that its limit on processes refused, and processes killed because it had no memory left."""

from __future__ import annotations

from collections.abc import Callable

from stockade.sandbox.limits import Limits
from stockade.service.governed import Governed
from stockade.types import Action, Effect, Level, Outcome, Reason, Record

_WORDS = {"pids": "forks_refused", "memory": "processes_killed"}


class Bounds:
    """One record for all that a limit stopped between two looks: the kernel counts exactly, and a fork bomb does not flood the trail."""

    def __init__(self, limits: Limits, governed: Governed, write: Callable[[Governed, Record], None]) -> None:
        self._limits, self._governed, self._write = limits, governed, write

    def look(self) -> None:
        for limit, times in self._limits.struck().items():
            detail: dict[str, str | int | list[str]] = {"limit": limit, _WORDS[limit]: times}
            record = Record(Action.LIFECYCLE, Outcome.DENY, Effect.REFUSE, Level.STATIC, Reason.LIMIT_REACHED, detail=detail)
            self._write(self._governed, record)
