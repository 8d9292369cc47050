"""Standard streams that are files on the host. The sandbox gets pipes instead, and this end copies.

A descriptor of a file brings its mount along, and that mount may allow executing: a sandbox that can write its own stdout could load it
into any binary through /proc/self/fd/1. Terminals, pipes, sockets and /dev/null carry no code and are handed on as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading

_CHUNK = 1 << 16


class Stdio:
    """given: the descriptors that become 0, 1 and 2 of the sandbox; dup2 them before anything else is forked."""

    def __init__(self) -> None:
        self._pipes: dict[int, int] = {}  # read end → the file behind it
        self._ours: list[int] = []  # ends that only the sandbox may hold
        self._fed: int | None = None
        self.given = (self._input(), *self._outputs())

    def _input(self) -> int:
        if not _is_file(0):
            return 0
        read, write = os.pipe()
        self._fed = write
        self._ours.append(read)
        return read

    def _outputs(self) -> tuple[int, int]:
        given = []
        by_file: dict[tuple[int, int], int] = {}  # `>log 2>&1`: one pipe, or the order of lines is lost
        for descriptor in (1, 2):
            if not _is_file(descriptor):
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
        """The launcher has its ends: ours would keep the pipes open for ever."""
        while self._ours:
            os.close(self._ours.pop())

    def start(self) -> None:
        """Copy, on the running loop; input on a thread of its own, because reading a file never waits on a descriptor."""
        for read in self._pipes:
            asyncio.get_running_loop().add_reader(read, self._copy, read)
        if self._fed is not None:
            threading.Thread(target=_feed, args=(self._fed,), name="stdin", daemon=True).start()

    def _copy(self, read: int) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(read, _CHUNK)
        except BlockingIOError:
            return False
        try:
            while data:
                data = data[os.write(self._pipes[read], data) :]
                if not data:
                    return True
        except OSError as error:  # a full disk: the command gets EPIPE where it would have got that
            with contextlib.suppress(OSError):  # standard error may be on the same disk
                os.write(2, f"stockade: standard output: {error.strerror}\n".encode())
        self._close(read)
        return False

    def _close(self, read: int) -> None:
        asyncio.get_running_loop().remove_reader(read)
        os.close(read)
        del self._pipes[read]

    def finish(self) -> None:
        """What the sandbox wrote before it ended, after it did."""
        for read in list(self._pipes):
            while read in self._pipes and self._copy(read):
                pass
            if read in self._pipes:
                self._close(read)


def _is_file(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False  # closed by the caller, and closed in the sandbox
    return not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def _feed(write: int) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(0, _CHUNK):
            while data:
                data = data[os.write(write, data) :]
    os.close(write)
