"""A container on its way into its pod: found as its cgroup is made, stopped before its first instruction, taken up, and let go on.

A runtime prepares a container in some tens of milliseconds and then waits to be told to start it. In that time its first process is in the
container's own root and still executes the runtime: it is frozen there until the pod's agent knows its binaries. One that was faster runs
on meanwhile, without a way out, and for how long is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from stockade.node.container import Bundle, First, bundle_of, first
from stockade.sandbox.cgroup import Cgroup

_LOOK = 0.002  # seconds between two looks at one that is being prepared
_PREPARED = 120.0  # seconds for that: longer than kubelet waits for its runtime
_FREEZE = "cgroup.freeze"


@dataclass(frozen=True, slots=True)
class Arrival:
    """seen: when it was last seen before its first instruction, on the monotonic clock; None where nobody saw it so."""

    identity: str
    cgroup: Cgroup
    process: First
    bundle: Bundle
    seen: float | None


async def arrival(identity: str, cgroup: Cgroup) -> Arrival | None:
    """As soon as it is in its own namespaces, or runs already. None: it has gone before."""
    until, seen = time.monotonic() + _PREPARED, None
    while time.monotonic() < until and cgroup.path.exists():
        process = first(cgroup)
        if process is not None:
            begun = process.begun
            if not begun:
                seen = time.monotonic()
            if begun or process.prepared:
                bundle = await asyncio.to_thread(bundle_of, identity, process)
                return Arrival(identity, cgroup, process, bundle or Bundle(), seen)
        await asyncio.sleep(_LOOK)
    return None


@contextlib.asynccontextmanager
async def stopped(found: Arrival) -> AsyncIterator[None]:
    """It does not begin meanwhile; one that has begun runs on."""
    freeze = found.cgroup.path / _FREEZE
    stops = not found.process.begun
    try:
        if stops:
            with contextlib.suppress(OSError):
                freeze.write_text("1")
        yield
    finally:
        if stops:
            with contextlib.suppress(OSError):
                freeze.write_text("0")
