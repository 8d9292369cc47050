"""One `stockade attach` or `oci-hook` that asks a daemon: what is wanted, as it comes over the socket, and what is told until it ends.

Whoever asked lets go of it by saying so. One that just goes away, as by kill -9, did not say so: what it asked for stays governed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

from stockade.attach.attachment import Standing
from stockade.daemon import handed
from stockade.daemon.attachments import Attached, Attachments
from stockade.daemon.front import Json, Spoken
from stockade.daemon.handed import LEFT_HELD
from stockade.types import StockadeError


async def attach(arguments: Json, spoken: Spoken, attachments: Attachments) -> None:
    """Until it ends, or whoever asked goes away; where that does not stay, until it is governed. Raises StockadeError."""
    wanted = await asyncio.to_thread(handed.heard, arguments)
    attached = attachments.begin(wanted)
    listening = asyncio.create_task(_listen(spoken, attached))
    try:
        spoken.say(governed=dataclasses.asdict(await _governed(attached)))
        assert attached.life is not None
        if arguments.get("stays") is True:
            await asyncio.wait({listening, attached.life}, return_when=asyncio.FIRST_COMPLETED)
            if attached.life.done():
                spoken.say(ended=_status(attached, attached.life))
    finally:
        listening.cancel()
        await asyncio.wait({listening})  # or it would stop, in its last turn, whoever hears next


async def _governed(attached: Attached) -> Standing:
    """Raises StockadeError."""
    try:
        return await asyncio.shield(attached.governed)
    except OSError as error:
        raise _failed(attached, error) from None


def _failed(attached: Attached, error: OSError) -> StockadeError:
    return StockadeError(f"{attached.wanted.name}: {error.strerror or error}", hint="is it running still?", code="attach")


def _status(attached: Attached, life: asyncio.Task[int | None]) -> int:
    """As a command that attaches ends with. Raises StockadeError."""
    name = attached.wanted.name
    error = None if life.cancelled() else life.exception()
    if attached.kept:
        said = f"{error}; what holds {name} stays" if error is not None else f"the daemon ended, and what holds {name} stays"
        raise StockadeError(f"{said}; the next daemon takes it over", code=LEFT_HELD)
    if isinstance(error, OSError):
        raise _failed(attached, error)
    if error is not None:
        raise error
    status = life.result()
    return 0 if attached.leave.is_set() or status is None else status


async def _listen(spoken: Spoken, attached: Attached) -> None:
    with contextlib.suppress(ValueError, OSError):
        while (line := await spoken.hear()) is not None:
            if line.get("let_go") is True:
                attached.leave.set()
            elif line.get("reload") is True:
                attached.reload()
