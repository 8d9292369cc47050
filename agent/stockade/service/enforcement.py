"""What holds a running sandbox, looked at twice a second: programs on their hooks, pins, the cgroup that its init is in.

When some of it is gone, exec rules and verdicts are no longer held, and what was recorded since the last look may be too little: nothing of
the sandbox can be let live on. Its init is killed, and with it everything in its PID namespace, wherever somebody moved it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from stockade.kernel.links import Link

EVERY = 0.5  # seconds; 25 links are looked at in a third of a millisecond


def lost_of(links: Iterable[Link]) -> list[str]:
    """What became of those that do not hold any more."""
    return [words for link in links if (words := link.lost()) is not None]


class Enforcement:
    """held: what is lost of what holds the sandbox, in words. init, pidfd: of its init, which was put into its cgroup by now."""

    def __init__(self, held: Callable[[], list[str]], init: int, pidfd: int) -> None:
        self._held, self._init, self._pidfd = held, init, pidfd
        self._place = _cgroup_of(init)

    def lost(self) -> list[str]:
        """What is no longer as it was, in words."""
        found = self._held()
        place = _cgroup_of(self._init)
        if place is not None and place != self._place:
            found.append(f"the sandbox was moved to cgroup {place}")
        return found

    async def until(self, ended: asyncio.Task[int]) -> list[str]:
        """Until the sandbox ends: by itself, or because what held it is lost, which is then killed. What was lost."""
        while True:
            done, _ = await asyncio.wait({ended}, timeout=EVERY)
            found = self.lost()
            if found and not done:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            if found or done:
                return found


def _cgroup_of(pid: int) -> str | None:
    """Where a process is in the v2 hierarchy; None once it is no more."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    return next((line[3:] for line in lines if line.startswith("0::")), None)
