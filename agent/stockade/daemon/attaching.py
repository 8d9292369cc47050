"""`stockade attach` and `oci-hook` as clients of a daemon: what is wanted goes over, and what came of it comes back.

The daemon may end meanwhile: what it governed stays held then, and the next daemon takes it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stockade.attach.attachment import Standing
from stockade.attach.wanted import Wanted
from stockade.daemon import handed
from stockade.daemon.handed import LEFT_HELD
from stockade.service.control import ANSWER, LINE, VERSION
from stockade.types import StockadeError

_LEFT = 70  # as an agent of its own ends that must not let go (EX_SOFTWARE, sysexits.h)
_LETS_GO = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def attach_by(path: Path, wanted: Wanted, done: Callable[[Standing], None]) -> int | None:
    """path: of the daemon's socket. done: called when it is governed. The status to end with; None: that daemon cannot attach.

    SIGINT, SIGTERM and SIGQUIT let go; SIGHUP has the policy read again. Raises StockadeError: it is not governed.
    """
    return asyncio.run(_attach(path, wanted, done))


def govern_by(path: Path, wanted: Wanted, seconds: float) -> str | None:
    """Returns when it is governed, in words; None: that daemon cannot attach. Raises StockadeError: it is not."""

    async def govern() -> str | None:
        try:
            async with asyncio.timeout(seconds), _Daemon(path, wanted, stays=False) as daemon:
                standing = await daemon.governed()
        except TimeoutError:
            raise StockadeError("the daemon did not govern it in time", code="control") from None
        if standing is None:
            return None
        return f"governed by the daemon; device: {standing.device}; {', '.join(standing.unheld) or 'held'}"

    return asyncio.run(govern())


async def _attach(path: Path, wanted: Wanted, done: Callable[[Standing], None]) -> int | None:
    async with _Daemon(path, wanted, stays=True) as daemon:
        loop = asyncio.get_running_loop()
        for number in _LETS_GO:
            loop.add_signal_handler(number, daemon.say, {"let_go": True})
        loop.add_signal_handler(signal.SIGHUP, daemon.say, {"let_go": True})
        standing = await daemon.governed()
        if standing is None:
            return None
        loop.add_signal_handler(signal.SIGHUP, daemon.say, {"reload": True})
        done(standing)
        try:
            if (said := await daemon.hear()) is not None:
                return int(said["ended"])
            print(f"stockade: the daemon was ended: {wanted.name} stays held, and the next one takes it over", file=sys.stderr)
        except StockadeError as error:
            if error.code != LEFT_HELD:
                raise
            print(f"stockade: {error.message} [{error.code}]", file=sys.stderr)
        return _LEFT


class _Daemon:
    """A connection to it, on which that is wanted. stays: until it ends."""

    def __init__(self, path: Path, wanted: Wanted, *, stays: bool) -> None:
        self._path = path
        self._request = {"v": VERSION, "verb": "attach", "arguments": handed.said(wanted) | {"stays": stays}}

    async def __aenter__(self) -> _Daemon:
        line = json.dumps(self._request).encode() + b"\n"
        if len(line) > LINE:
            raise StockadeError("the order is too long", hint="stockade attach --embedded", code="too_long")
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self._path, limit=ANSWER)
        except OSError as error:
            raise StockadeError(f"the daemon does not answer: {error.strerror or error}", code="control") from None
        self._writer.write(line)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def say(self, line: dict[str, bool]) -> None:
        with contextlib.suppress(OSError):
            self._writer.write(json.dumps(line).encode() + b"\n")

    async def governed(self) -> Standing | None:
        """None: it is one of an older version, which knows no attachments."""
        try:
            said = await self.hear()
        except StockadeError as error:
            if error.code == "no_verb":
                return None
            raise
        if said is None:
            raise StockadeError("the daemon ended while it attached", hint="stockade status says what is held", code="control")
        found: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said["governed"].items()}
        return Standing(**found)

    async def hear(self) -> dict[str, Any] | None:
        """The next line; None when it is gone. Raises StockadeError with what it refused."""
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):
            return None
        if not line.endswith(b"\n"):
            return None
        found: dict[str, Any] = json.loads(line)
        if (error := found.get("error")) is not None:
            raise StockadeError(str(error["message"]), hint=str(error["hint"]), code=str(error["code"]))
        return found
