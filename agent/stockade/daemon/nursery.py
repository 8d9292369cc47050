"""The nursery, as the daemon holds it: a process (born.py) that was started before the daemon held a key, and forks all others.

Whoever is forked there inherits nothing of the daemon's, and is the daemon's own child all the same (CLONE_PARENT): it reaps them. Three
can be asked for: a launcher, a proxy worker, and the agent's sockets in a namespace that is there already.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence

from stockade.daemon.born import QUESTION
from stockade.descriptors import receive
from stockade.kernel.abi import Network
from stockade.proxy import Worker
from stockade.sandbox import launch
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.launch import Launcher, Sockets
from stockade.service.settings import Settings
from stockade.types import StockadeError


class Nursery:
    """The daemon's end. Methods raise StockadeError; one question at a time."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, settings: Settings) -> None:
        self._process, self._channel, self._settings = process, channel, settings
        self._turn = asyncio.Lock()

    @classmethod
    def begin(cls, settings: Settings, listeners: Cgroup) -> Nursery:
        """Start it now. listeners: the cgroup in which sockets answer ORIGIN."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            line = [sys.executable, "-P", "-m", "stockade.daemon.born", str(theirs.fileno()), str(listeners.path), str(settings.proxy_user)]
            process = subprocess.Popen(line, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
        return cls(process, ours, settings)

    async def launcher(self, stdio: tuple[int, int, int]) -> Launcher:
        """stdio: what becomes 0, 1 and 2 of the sandbox; stays the caller's."""
        pid, channel = await self._ask(("launcher",), stdio)
        return Launcher(pid, channel)

    async def worker(self) -> Worker:
        pid, channel = await self._ask(("worker",), ())
        return Worker(pid, channel, self._settings.proxy_user, self._settings.classifier_user)

    async def sockets(self, init: int, network: Network, listeners: Cgroup | None = None) -> Sockets:
        """The agent's, in the network namespace of a sandbox that runs. init: a pidfd. listeners: where ORIGIN is answered by other
        programs than everybody's."""
        pid, channel = await self._ask(("sockets", network, listeners), (init,))
        try:
            return await asyncio.to_thread(launch.sockets_of, channel)
        finally:
            await asyncio.to_thread(os.waitpid, pid, 0)

    async def _ask(self, question: tuple[object, ...], descriptors: Sequence[int]) -> tuple[int, socket.socket]:
        async with self._turn:
            return await asyncio.to_thread(self._asked, question, descriptors)

    def _asked(self, question: tuple[object, ...], descriptors: Sequence[int]) -> tuple[int, socket.socket]:
        try:
            socket.send_fds(self._channel, [pickle.dumps(question)], list(descriptors))
            data, received = receive(self._channel, QUESTION, 1)
        except OSError as error:
            raise StockadeError(f"nobody forks any more: {error.strerror}", code="nursery") from None
        if not data or len(received) != 1:
            raise StockadeError(f"cannot fork: {data.decode(errors='replace') or 'the process for it has ended'}", code="nursery")
        return int(data), socket.socket(fileno=received[0])

    def close(self) -> None:
        self._channel.close()
        self._process.wait()
