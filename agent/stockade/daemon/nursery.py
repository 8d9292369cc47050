"""The nursery: a process that the daemon forked before it held a key, a thread or a loop, and that forks all others from then on.

Whoever is forked here inherits nothing of the daemon's, and is the daemon's own child all the same (CLONE_PARENT): it reaps them, and no
nursery stands between. Three can be asked for: a launcher, a proxy worker, and the agent's sockets in a namespace that is there already.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from typing import NoReturn

from stockade.kernel.abi import Network
from stockade.proxy import Worker, live
from stockade.sandbox import launch, libc, seccomp
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.launch import Launcher, Sockets
from stockade.service.settings import Settings
from stockade.types import StockadeError

_QUESTION = 4096  # octets of the longest
_STDIO = 3


class Nursery:
    """The daemon's end. Methods raise StockadeError; one question at a time."""

    def __init__(self, pid: int, channel: socket.socket, settings: Settings) -> None:
        self.pid, self._channel, self._settings = pid, channel, settings
        self._turn = asyncio.Lock()

    @classmethod
    def begin(cls, settings: Settings, listeners: Cgroup) -> Nursery:
        """Fork it now. listeners: the cgroup in which sockets answer ORIGIN."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            _serve(theirs, settings, listeners)
        theirs.close()
        return cls(pid, ours, settings)

    async def launcher(self, stdio: tuple[int, int, int]) -> Launcher:
        """stdio: what becomes 0, 1 and 2 of the sandbox; stays the caller's."""
        pid, channel = await self._ask(("launcher",), stdio)
        return Launcher(pid, channel)

    async def worker(self) -> Worker:
        pid, channel = await self._ask(("worker",), ())
        return Worker(pid, channel, self._settings.proxy_user, self._settings.classifier_user)

    async def sockets(self, init: int, network: Network) -> Sockets:
        """The agent's, in the network namespace of a sandbox that runs. init: a pidfd."""
        pid, channel = await self._ask(("sockets", network), (init,))
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
            data, received, _, _ = socket.recv_fds(self._channel, _QUESTION, 1)
        except OSError as error:
            raise StockadeError(f"nobody forks any more: {error.strerror}", code="nursery") from None
        if not data or len(received) != 1:
            raise StockadeError(f"cannot fork: {data.decode(errors='replace') or 'the process for it has ended'}", code="nursery")
        return int(data), socket.socket(fileno=received[0])

    def close(self) -> None:
        self._channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(channel: socket.socket, settings: Settings, listeners: Cgroup) -> NoReturn:
    """The nursery's whole life: until the daemon's is over."""
    status = 1
    try:
        os.closerange(3, channel.fileno())  # the daemon's socket must end with it
        os.closerange(channel.fileno() + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.setsid()  # out of reach of the daemon's terminal
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        libc.set_title("stockade-nursery")
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        gc.disable()
        gc.freeze()  # what is forked touches, and so copies, none of it
        born = os.open(listeners.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        while True:
            data, descriptors, _, _ = socket.recv_fds(channel, _QUESTION, _STDIO)
            if not data:
                break
            try:
                _fork(channel, pickle.loads(data), descriptors, settings, born)  # noqa: S301 - the daemon's, which forked this process
            except Exception as error:
                channel.send(str(error).encode()[:_QUESTION])
            for descriptor in descriptors:
                os.close(descriptor)
        status = 0
    finally:
        os._exit(status)


def _fork(channel: socket.socket, question: tuple[object, ...], descriptors: list[int], settings: Settings, born: int) -> None:
    """Answer with the child's PID, and the daemon's end of a channel to it."""
    life: Callable[[socket.socket], NoReturn]
    cgroup: int | None = born
    match question:
        case ("launcher",):
            stdio = (descriptors[0], descriptors[1], descriptors[2])

            def life(theirs: socket.socket) -> NoReturn:
                launch.serve(theirs, stdio)
        case ("worker",):
            cgroup, user = None, settings.proxy_user

            def life(theirs: socket.socket) -> NoReturn:
                live(theirs, user, user, seccomp.confinement(seccomp.WORKER))
        case ("sockets", Network() as network):

            def life(theirs: socket.socket) -> NoReturn:
                launch.listen_inside(theirs, descriptors[0], network, None)
        case _:
            raise ValueError(f"not a question: {question!r}")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        pid = libc.fork_beside(cgroup)
        if pid == 0:
            try:
                channel.close()
                ours.close()
                life(theirs)
            finally:
                os._exit(1)
        socket.send_fds(channel, [str(pid).encode()], [ours.fileno()])
