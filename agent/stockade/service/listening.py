"""A unix socket that answers: its name on disk, and a task for everybody who connects. What is said there is the control socket's business,
or the daemon's.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

from stockade.types import StockadeError

log = logging.getLogger(__name__)

BACKLOG = 64
PAUSE = 1.0  # seconds without accepting when it failed, which is for want of descriptors

Speak = Callable[[socket.socket], Awaitable[None]]


class Listening:
    """sock: bound to path, and listens. Both are taken away by `close`."""

    def __init__(self, path: Path, sock: socket.socket) -> None:
        self.path, self._sock = path, sock
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def bound(cls, path: Path, taken: StockadeError) -> Self:
        """Root's alone. What a dead owner left is replaced. Raises StockadeError: `taken` when somebody listens there already."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with _locked(path.parent):  # two that find the same stale socket must not both replace it
                if answers(path):
                    raise taken
                path.unlink(missing_ok=True)
                sock.bind(str(path))
                path.chmod(0o600)
                sock.listen(BACKLOG)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise StockadeError(f"no control socket at {path}: {error.strerror or error}", code="control") from None
            raise
        return cls(path, sock)

    def speak_to_all(self, speak: Speak) -> None:
        """Have everybody who connects spoken to, on the running loop. speak: closes what it is given, and raises nothing."""
        self._keep(self._accept(speak))

    def close(self) -> None:
        """Of those who are spoken to, none hears more."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._sock.close()

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, speak: Speak) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._sock)
            except OSError as error:
                log.error("%s: %s", self.path.name, error)
                await asyncio.sleep(PAUSE)
                continue
            self._keep(speak(client))


def answers(path: Path) -> bool:
    """Whether somebody listens there: a socket outlives its owner by name only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # its backlog is full, or it is slow: it lives
            return True
        return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
