"""What holds a running sandbox, looked at on every round: programs on their hooks, pins, the cgroup that its init is in.

When some of it is gone, exec rules and verdicts are no longer held, and what was recorded since the last look may be too little: nothing of
the sandbox can be let live on. Its init is killed, and with it everything in its PID namespace, wherever somebody moved it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

from stockade.kernel.links import Link
from stockade.sandbox import exited

log = logging.getLogger(__name__)

GOOD = 0.5  # seconds for which what was seen of what holds many is good for each of them
_LONGEST = 1 << 16  # octets of /proc/PID/cgroup that are read, a line for each hierarchy


def lost_of(links: Iterable[Link]) -> list[str]:
    """What became of those that do not hold any more."""
    return [words for link in links if (words := link.lost()) is not None]


class Common:
    """What holds many, looked at once for all who ask in the same moment."""

    def __init__(self, links: Iterable[Link]) -> None:
        self._links = tuple(links)
        self._seen: tuple[float, list[str]] | None = None

    def lost(self) -> list[str]:
        """As of at most half a second ago. In any thread: two that ask at once look twice."""
        if (seen := self._seen) is None or time.monotonic() - seen[0] > GOOD:
            seen = self._seen = time.monotonic(), lost_of(self._links)
        return list(seen[1])


class Enforcement:
    """held: what is lost of what holds the sandbox, in words. init, pidfd: of its init, which was put into its cgroup by now."""

    def __init__(self, held: Callable[[], list[str]], init: int, pidfd: int) -> None:
        self._held, self._init, self._pidfd = held, init, pidfd
        self._place, self._cgroup = _cgroup_of(init), exited.cgroup(pidfd)
        self._lost: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    def lost(self) -> list[str]:
        """What is no longer as it was, in words."""
        try:
            found = self._held()
            place = self._place if self._is_where_it_was() else _cgroup_of(self._init)
        except Exception as error:  # what cannot be looked at holds nobody
            log.exception("a look at what holds a sandbox failed")
            return [f"what holds the sandbox cannot be looked at: {error!r}"]
        if place is not None and place != self._place:
            found.append(f"the sandbox was moved to cgroup {place}")
        return found

    def _is_where_it_was(self) -> bool:
        """At a tenth of the price of its cgroup's path. False where the kernel does not say."""
        return self._cgroup is not None and exited.cgroup(self._pidfd) == self._cgroup

    def look(self) -> None:
        """End the sandbox when something is lost. From time to time, on the loop."""
        if not self._lost.done() and (found := self.lost()):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._lost.set_result(found)

    async def until(self, ended: asyncio.Task[int]) -> list[str]:
        """Until the sandbox ends: by itself, or because a look found that what held it is lost. What was lost."""
        either: set[asyncio.Future[Any]] = {ended, self._lost}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return self._lost.result() if self._lost.done() else self.lost()


def _cgroup_of(pid: int) -> str | None:
    """Where a process is in the v2 hierarchy; None once it is no more. Raises ValueError for a place that is not told whole."""
    try:
        descriptor = os.open(f"/proc/{pid}/cgroup", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, _LONGEST)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    *lines, rest = text.split(b"\n")
    place = next((line[3:] for line in lines if line.startswith(b"0::")), None)
    if place is None or rest:
        raise ValueError(f"/proc/{pid}/cgroup says {text[-80:]!r}")
    return os.fsdecode(place)
