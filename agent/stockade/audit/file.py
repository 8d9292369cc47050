"""A private file of whole lines: the one way this package writes to disk.

Owns how it is opened (0600, never through a symlink, one writer) and that a line is in it whole or not at all. Knows nothing of what
the lines say. Every write is a single pwrite(2) at the known end: what the call acknowledged survives kill -9 of the agent, because it
is in the page cache; sync() is what makes it survive the machine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Self

from stockade.types import StockadeError


class AuditError(StockadeError, OSError):
    """A line could not be written. Nothing of it is in the file; whoever asked must deny."""

    def __init__(self, message: str, *, hint: str = "", error: int | None = None) -> None:
        StockadeError.__init__(self, message, hint=hint, code="audit_unavailable")
        self.errno = error


class LineFile:
    """An open file; `size` is where its next line goes. Not thread-safe: its owner holds the lock."""

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path, self.size = path, size
        self._fd = fd
        self._fault: int | None = None  # errno: nothing more is taken

    @classmethod
    def open(cls, path: Path, *, lock: bool = False) -> Self:
        """Open or create path. Raises AuditError: no directory, a symlink, not a regular file, writable by others, another agent's."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            link = error.errno == errno.ELOOP
            hint = "a symlink could point into a sandbox: name the file itself" if link else "--audit names a file in an existing directory"
            raise AuditError(f"cannot open {path}: {error.strerror}", hint=hint, error=error.errno) from error
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                raise AuditError(f"{path} is not a regular file", hint="name a file, not a device or pipe", error=errno.EINVAL)
            if about.st_mode & 0o022:
                raise AuditError(f"{path} can be written by others", hint=f"chmod go-w {path}", error=errno.EPERM)
            if lock:
                # flock, not POSIX locks: those vanish when anything in this process closes the same file, as a verifier does.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            hint = "give each agent its own --audit file"
            raise AuditError(f"{path} is being written by another agent", hint=hint, error=error.errno) from error
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, about.st_size)

    def append(self, line: bytes) -> int:
        """Add one line, newline included, and return its offset. Raises AuditError with the file as it was before."""
        if self._fault is not None:
            raise self._refusal(self._fault)
        offset, failure = self.size, errno.ENOSPC
        try:
            if os.pwrite(self._fd, line, offset) == len(line):
                self.size = offset + len(line)
                return offset
        except OSError as error:
            failure = error.errno or errno.EIO
        # A part of the line may be in the file (a short write: the disk filled up in the middle). Half a record would break the chain
        # for every later one, so it goes; when not even that works, this file takes nothing more.
        try:
            os.ftruncate(self._fd, offset)
        except OSError:
            self._fault = failure
        raise self._refusal(failure)

    def patch(self, offset: int, data: bytes) -> None:
        """Overwrite bytes that are already there: needs no space, so it works on a full disk. Raises AuditError."""
        try:
            os.pwrite(self._fd, data, offset)
        except OSError as error:
            raise AuditError(f"cannot write to {self.path}: {error.strerror}", error=error.errno) from error

    def truncate(self, size: int) -> None:
        """size: in bytes. Raises AuditError."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise AuditError(f"cannot truncate {self.path}: {error.strerror}", error=error.errno) from error
        self.size = size

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def tail(self, count: int, *, step: int = 1 << 16) -> tuple[list[bytes], bytes]:
        """(the last `count` whole lines without their newlines, what follows the last newline). Reads backward: the file may be huge."""
        start, data = self.size, b""
        while start > 0 and data.count(b"\n") <= count:
            start = max(0, start - step)
            data = self.read(self.size - start, start)
            step *= 2
        *lines, torn = data.split(b"\n")
        return lines[-count:], torn

    def sync(self) -> None:
        """fdatasync. After a failure the kernel may have dropped the pages, so the file takes nothing more. Raises AuditError."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._fault = error.errno or errno.EIO
            raise self._refusal(self._fault) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1

    def _refusal(self, failure: int) -> AuditError:
        hint = "free space there: until then all is denied" if failure == errno.ENOSPC else "until it can be written, all is denied"
        return AuditError(f"cannot write to {self.path}: {os.strerror(failure)}", hint=hint, error=failure)


def sync_directory(path: Path) -> None:
    """Make the names of new files survive the machine: syncing a file does not. Raises AuditError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise AuditError(f"cannot sync {path}: {error.strerror}", error=error.errno) from error
