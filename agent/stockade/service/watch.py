"""Files that somebody may change: which of them are other ones now, and whether whoever writes them is done.

Looks at names, not at inodes: a policy is replaced by renaming, by exchanging a link (as Kubernetes does with a ConfigMap), by writing in
place, and by deleting it. inotify would have to be told of every directory on the way to each of them, and is silent on network mounts; a
look takes some ten microseconds a file. Reads no content and starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

SECONDS = 0.5  # between two looks

# The file that a name leads to: device, inode, change of content in ns, size. None: there is none.
Signature = tuple[int, int, int, int, int] | None

_TICK = 10_000_000  # ns: a file system stamps with a clock that is up to this much late


class Files:
    """What was read: one for all who read the same, so that whoever looks for many does so once. Never changes."""

    __slots__ = ("__weakref__", "_found")
    _known: ClassVar[WeakValueDictionary[tuple[tuple[Path, Signature], ...], Files]] = WeakValueDictionary()

    def __init__(self, found: tuple[tuple[Path, Signature], ...]) -> None:
        self._found = found

    @classmethod
    def of(cls, read: Mapping[Path, Signature]) -> Files:
        found = tuple(read.items())
        if (files := cls._known.get(found)) is None:
            files = cls._known[found] = cls(found)
        return files

    def unchanged(self, signature_of: Callable[[Path], Signature]) -> bool:
        return all(signature_of(path) == read for path, read in self._found)


class Watch:
    """What was read last, and what is there now. Who reads, and who looks, takes turns."""

    def __init__(self) -> None:
        self._read: dict[Path, Signature] = {}
        self._files = Files.of(self._read)
        self._seen = self._read
        self._unsure: set[Path] = set()
        self._turn = threading.Lock()

    @property
    def watched(self) -> tuple[Path, ...]:
        """What was looked for in the last reading, as it was named."""
        return tuple(self._read)

    @property
    def calm(self) -> Files | None:
        """Nothing new was seen since these were read: as long as they are unchanged a look would find nothing either."""
        return self._files if self._seen is self._read and not self._unsure else None

    @contextlib.contextmanager
    def reading(self) -> Iterator[list[Path]]:
        """Around every reading, which adds what it looks for to the list: that is watched from then on.

        A reading that fails narrows nothing: what was watched before stays so. A file that was not known before, and is as young as the
        reading, may have changed after it was read: it counts as changed.
        """
        with self._turn:
            yield from self._reading()

    def _reading(self) -> Iterator[list[Path]]:
        known = self._seen = {path: signature(path) for path in self._read}
        moment = time.time_ns()
        self._unsure.clear()
        named: list[Path] = []
        try:
            yield named
        except BaseException:
            named += known
            raise
        finally:
            self._read = {}
            for path in dict.fromkeys(path.absolute() for path in named):
                now = self._read[path] = known[path] if path in known else signature(path)
                if path not in known and now is not None and now[2] >= moment - _TICK:
                    self._unsure.add(path)
            self._files = Files.of(self._read)
            self._seen = self._read

    def look(self, signature_of: Callable[[Path], Signature] = lambda path: signature(path)) -> bool:
        """Whether something is not what was read, and has not changed since the last look: its writer is done. False while it is read."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            for path, before in self._seen.items():
                if signature_of(path) != before:
                    seen = {path: signature_of(path) for path in self._read}
                    self._seen = seen if seen != self._read else self._read
                    return False
            return bool(self._unsure) or (self._seen is not self._read and self._seen != self._read)
        finally:
            self._turn.release()


def signature(path: Path) -> Signature:
    """What a name leads to now, through whatever links: as cheap as a look can be, since a daemon takes it for each of its sandboxes."""
    try:
        state = os.stat(path)  # noqa: PTH116 (a third of the time of Path's)
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size, state.st_mode & stat.S_IWOTH  # which service/order.py asks for
