"""A container on its way into its pod: found as its cgroup is made, stopped before its first instruction, taken up, and let go on.

A runtime prepares a container in some tens of milliseconds and then waits to be told to start it. In that time its first process is in the
container's own root and still executes the runtime: it is frozen there until the pod's agent knows its binaries, and its first exec is
judged like any other. One that was faster is stopped by a program of the kernel's as it begins (bpf/exec.c), and is known by the file that
it executes. What neither stopped runs on meanwhile, without a way out, and for how long is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass, field, replace

from stockade.node.container import Bundle, First, bundle_of, first, waits
from stockade.sandbox.cgroup import Cgroup

_LOOK = 0.002  # seconds between two looks at one that is being prepared
_READABLE = 2.0  # seconds for its bundle
_PREPARED = 120.0  # seconds for that: longer than kubelet waits for its runtime
_AFTER, _LOOKS = 0.02, 25  # seconds between two looks at one that has begun, and how many: the signal that stops it is delivered by then


@dataclass(slots=True)
class Arrival:
    """came: when its cgroup was found. seen: when it was last seen before its first instruction; None where nobody saw it so. Both on the
    monotonic clock.

    stopped: it stands still, until somebody lets it go on.
    """

    identity: str
    cgroup: Cgroup
    process: First
    came: float
    seen: float | None
    stopped: bool
    bundle: Bundle = field(default_factory=Bundle)

    @property
    def waits(self) -> bool:
        return waits(self.process.pid)

    @property
    def arriving(self) -> bool:
        """Whether it stands still, and is its runtime's yet."""
        return self.stopped and not self.process.begun

    def thaw(self) -> None:
        """May be called twice."""
        if self.stopped:
            self.stopped = False
            _freeze(self.cgroup, stop=False)

    def go_on(self) -> None:
        """The same for whoever was stopped by a signal, too."""
        self.thaw()
        for pid in self.cgroup.processes():
            with contextlib.suppress(ProcessLookupError):
                if waits(pid):
                    os.kill(pid, signal.SIGCONT)

    async def begin(self) -> None:
        """See it through, once it was let go on, until it runs. The kernel still stops it as it begins where it is not governed, where it
        began just as it was frozen (the signal is seen when it thaws), and by a gate of an agent that has ended."""
        until, looks = time.monotonic() + _PREPARED, 0
        while looks < _LOOKS and time.monotonic() < until and self.cgroup.populated():
            begun = self.process.begun
            self.go_on()
            looks += begun
            await asyncio.sleep(_AFTER if begun else _LOOK)


async def arrival(identity: str, cgroup: Cgroup) -> Arrival | None:
    """As soon as it is in its own namespaces, and then stopped; or when it runs already. None: it has gone before."""
    came, seen = time.monotonic(), None
    while time.monotonic() < came + _PREPARED and cgroup.path.exists():
        process = first(cgroup)
        if process is not None:
            begun = process.begun
            if not begun:
                seen = time.monotonic()
            if begun or process.prepared:
                if not begun:
                    _freeze(cgroup, stop=True)  # before anything else: it may be told to start at any moment
                # One that runs is frozen by nobody in a cluster but an agent that died over it.
                found = Arrival(identity, cgroup, process, came, seen, not begun or _frozen(cgroup))
                try:
                    bundle = await _bundle(identity, process)
                except BaseException:
                    found.go_on()
                    raise
                return replace(found, bundle=bundle)
        await asyncio.sleep(_LOOK)
    return None


async def _bundle(identity: str, process: First) -> Bundle:
    """As soon as it can be read: while who made a container ends and the shim takes its place, nobody is its parent for a moment. An empty
    one where it never can, and then nobody knows which container holds the pod's namespaces."""
    until = time.monotonic() + _READABLE
    while (found := await asyncio.to_thread(bundle_of, identity, process)) is None and time.monotonic() < until:
        await asyncio.sleep(_LOOK)
    return found or Bundle()


def _frozen(cgroup: Cgroup) -> bool:
    try:
        return (cgroup.path / "cgroup.freeze").read_text().strip() == "1"
    except OSError:
        return False


def _freeze(cgroup: Cgroup, *, stop: bool) -> None:
    """Nothing where it is gone."""
    with contextlib.suppress(OSError):
        (cgroup.path / "cgroup.freeze").write_text("1" if stop else "0")
