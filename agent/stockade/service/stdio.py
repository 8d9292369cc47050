"""Standard streams that bring more along than their octets. The sandbox gets pipes instead, and processes of their own copy.

A descriptor of a file brings its mount along, and that mount may allow executing: a sandbox that can write its own stdout could load it
into any binary through /proc/self/fd/1. A socket brings its network namespace along, and the cgroup it was made in: the sandbox could
dissolve its connection and make it anew to anywhere, under no program of ours. Terminals, pipes, /dev/null and connected unix streams are
handed on as they are: they carry no code, and lead nowhere else.

They are no part of the agent, so that they outlive one that is killed: the command goes on reading and writing, and is adopted. They end
with the last process that holds the other end, know nothing, and decide nothing. Once the sandbox has ended, they wait for a peer as
long as it takes something now and then: whoever takes nothing more holds no agent up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

from stockade.sandbox import libc

_CHUNK = 1 << 16
_STUCK = 10.0  # seconds in which a peer takes nothing, once the sandbox has ended
_SILENT = 5.0  # seconds more, until whoever should have given it up is killed
_TICK = 0.5  # seconds between two tries: a socket says that there is room only when there is much
_IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # the agent's business


class Stdio:
    """given: the descriptors that become 0, 1 and 2 of the sandbox; dup2 them before anything else is forked."""

    def __init__(self) -> None:
        self._pipes: dict[int, int] = {}  # read end → the file or socket behind it
        self._ours: list[int] = []  # ends that only the sandbox may hold
        self._fed: int | None = None
        self._feeder: int | None = None  # PID
        self._copier: tuple[int, socket.socket] | None = None  # PID, and what tells it that the sandbox has ended
        self.given = (self._input(), *self._outputs())

    def _input(self) -> int:
        if _harmless(0):
            return 0
        read, write = os.pipe()
        self._fed = write
        self._ours.append(read)
        return read

    def _outputs(self) -> tuple[int, int]:
        given = []
        by_file: dict[tuple[int, int], int] = {}  # `>log 2>&1`: one pipe, or the order of lines is lost
        for descriptor in (1, 2):
            if _harmless(descriptor):
                given.append(descriptor)
                continue
            state = os.fstat(descriptor)
            key = (state.st_dev, state.st_ino)
            if key not in by_file:
                read, by_file[key] = os.pipe()
                os.set_blocking(read, False)
                self._pipes[read] = descriptor
                self._ours.append(by_file[key])
            given.append(by_file[key])
        return given[0], given[1]

    def handed_over(self) -> None:
        """The launcher has its ends: ours would keep the pipes open for ever. Forks: before there are keys, threads or a loop."""
        while self._ours:
            os.close(self._ours.pop())
        if self._fed is not None:
            fed = self._fed
            self._feeder = _fork({fed}, lambda: _feed(fed))
            os.close(fed)
        if self._pipes:
            tell, told = socket.socketpair()
            with told:
                self._copier = _fork({told.fileno(), *self._pipes}, _Copier(self._pipes, told).run), tell
            for descriptor in self._pipes:
                os.close(descriptor)

    def finish(self) -> None:
        """What the sandbox wrote before it ended, after it did. Waits for as long as somebody takes it."""
        if self._feeder is not None:
            os.kill(self._feeder, signal.SIGKILL)
            os.waitpid(self._feeder, 0)
        if self._copier is not None:
            pid, tell = self._copier
            with tell:
                tell.settimeout(_STUCK + _SILENT)
                try:
                    tell.send(b".")
                    while tell.recv(_CHUNK):
                        pass
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                except OSError:  # it has seen the end by itself
                    pass
                os.waitpid(pid, 0)


class _Copier:
    """pipes: read end → the file or socket behind it. told: who says there that the sandbox has ended hears from then on of what went."""

    def __init__(self, pipes: dict[int, int], told: socket.socket) -> None:
        self._pipes, self._told = pipes, told
        self._ended = False

    def run(self) -> None:
        """Its whole life: until the sandbox holds no other end, or whoever started it says that it has ended."""
        poll = select.poll()
        for descriptor in (self._told.fileno(), *self._pipes):
            poll.register(descriptor, select.POLLIN)
        while self._pipes and not self._ended:
            for descriptor, _ in poll.poll():
                if descriptor == self._told.fileno():
                    poll.unregister(descriptor)
                    self._hear()
                elif not self._pass(descriptor):
                    poll.unregister(descriptor)
                    os.close(descriptor)
                    del self._pipes[descriptor]
        for read in self._pipes:
            with contextlib.suppress(BlockingIOError):
                while self._pass(read):
                    pass

    def _hear(self) -> None:
        self._ended = bool(self._told.recv(1))  # else the agent is no more, and the sandbox may live on

    def _pass(self, read: int) -> bool:
        """Whether there may be more. Raises BlockingIOError when there is nothing now."""
        data = os.read(read, _CHUNK)
        try:
            while data:
                data = data[self._write(self._pipes[read], data) :]
                if not data:
                    return True
        except OSError as error:  # a full disk: the command gets EPIPE where it would have got that
            with contextlib.suppress(OSError):  # standard error may be on the same disk
                _send(2, f"stockade: standard output: {error.strerror}\n".encode())
        return False

    def _write(self, descriptor: int, data: bytes) -> int:
        """Raises TimeoutError for a peer that takes nothing more."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not self._ended:
            poll.register(self._told, select.POLLIN)
        until = time.monotonic() + _STUCK
        try:
            while True:
                try:
                    return _send(descriptor, data)
                except BlockingIOError:
                    if self._ended and time.monotonic() > until:
                        raise TimeoutError(errno.ETIMEDOUT, "its reader takes nothing more, and the command has ended") from None
                for ready, _ in poll.poll(_TICK * 1000 if self._ended else None):
                    if ready == self._told.fileno():
                        poll.unregister(self._told)
                        self._hear()
                        until = time.monotonic() + _STUCK
        finally:
            if self._ended:
                with contextlib.suppress(OSError):
                    self._told.send(b".")


def _fork(kept: set[int], life: Callable[[], None]) -> int:
    """A process that holds the standard streams, `kept` and nothing else: no lock, no end of a channel, that would outlive the agent."""
    pid = os.fork()
    if pid == 0:
        try:
            for number in _IGNORED:
                signal.signal(number, signal.SIG_IGN)
            libc.set_title("stockade-stdio")
            for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
                if descriptor > 2 and descriptor not in kept:
                    with contextlib.suppress(OSError):  # the one that lists them
                        os.close(descriptor)
            life()
        finally:
            os._exit(0)
    return pid


def _harmless(descriptor: int) -> bool:
    """Whether the sandbox may hold the stream itself."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return True  # closed by the caller, and closed in the sandbox
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or (stat.S_ISSOCK(mode) and _stays(descriptor))


def _stays(descriptor: int) -> bool:
    """Whether a socket speaks to one peer for good: a unix stream, once it is connected. Whoever holds any other says to whom it speaks."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        try:
            sock.getpeername()
        except OSError:
            return False
        return sock.family == socket.AF_UNIX and sock.type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)


def _feed(write: int) -> None:
    """Until there is no more, or nobody who would read it."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(write, 0)  # POLLERR: no process holds the other end
    with contextlib.suppress(OSError):
        while write not in dict(poll.poll()):
            try:
                data = _receive(0)
            except BlockingIOError:  # somebody else has taken it
                continue
            if not data:
                return
            while data:
                data = data[os.write(write, data) :]


def _receive(descriptor: int) -> bytes:
    """What is there, empty at the end. Whether a socket waits is its owner's to say, so it is asked each time not to. Raises OSError."""
    if not _is_socket(descriptor):
        return os.read(descriptor, _CHUNK)
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.recv(_CHUNK, socket.MSG_DONTWAIT)


def _send(descriptor: int, data: bytes) -> int:
    """How much of it went, at once. Raises OSError."""
    if not _is_socket(descriptor):
        return os.write(descriptor, data)
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.send(data, socket.MSG_DONTWAIT)


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
