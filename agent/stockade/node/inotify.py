"""inotify(7), as far as directories that come and go need it: the standard library has none, and 30 lines are less than a dependency."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CREATE, _DELETE, _MOVED_TO, _ONLYDIR, _OVERFLOW, _IGNORED, _ISDIR = 0x100, 0x200, 0x80, 0x1000000, 0x4000, 0x8000, 0x40000000
_NONBLOCK, _CLOEXEC = 0x800, 0x80000
_EVENT = struct.Struct("=iIII")
_ROOM = 65536


@dataclass(frozen=True, slots=True)
class Change:
    """path None: the kernel's queue was full, and everything is to be looked at again."""

    path: Path | None
    came: bool = False


class Watcher:
    """Of directories: which directories are made and removed in them."""

    def __init__(self) -> None:
        self.descriptor = _called(_libc.inotify_init1(_NONBLOCK | _CLOEXEC))
        self._paths: dict[int, Path] = {}

    def add(self, path: Path) -> None:
        """Raises OSError. One that is gone is watched no more by itself."""
        self._paths[_called(_libc.inotify_add_watch(self.descriptor, os.fsencode(path), _CREATE | _DELETE | _MOVED_TO | _ONLYDIR))] = path

    def changes(self) -> Iterator[Change]:
        """What has happened since. Waits for nothing."""
        try:
            data = os.read(self.descriptor, _ROOM)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, size = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0")
            at += _EVENT.size + size
            if mask & _OVERFLOW:
                yield Change(None)
            elif mask & _IGNORED:
                self._paths.pop(watch, None)
            elif mask & _ISDIR and watch in self._paths:
                yield Change(self._paths[watch] / os.fsdecode(name), not mask & _DELETE)

    def close(self) -> None:
        os.close(self.descriptor)


def _called(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
