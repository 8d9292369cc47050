"""The journal: requests that were let go and whose end is not known yet.

Owns PATH.journal. A request is written here before it may leave, and struck out once its record is in the trail; what is still open when
the agent starts again was interrupted. Never read by anyone else, never part of the chain.

One line per request: a state byte, `+` open or `-` struck out, then JSON. Striking out overwrites that byte in place, which needs no
space: a full disk cannot make a finished request look interrupted.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from stockade.audit.file import LineFile
from stockade.audit.record import Json, canonical

_COMPACT = 1 << 20  # bytes: one long-lived stream keeps the file from emptying, so past this it is written anew
_OPEN, _DONE = b"+", b"-"
_NOWHERE = -1  # the offset of what is in memory alone


class Journal:
    """Not thread-safe: the trail holds the lock, on threads and on the file."""

    def __init__(self, file: LineFile) -> None:
        self._file = file
        self._open: dict[int, tuple[int, Json]] = {}  # token → (offset, fields)
        self._next = 1
        self._floor = 0  # size after the last compaction: what is open may itself be large

    @classmethod
    def open(cls, path: Path) -> Journal:
        """The journal; tokens() are the requests that a dead agent left open, oldest first. Raises AuditError."""
        journal = cls(LineFile.open(path))
        journal._take_up()
        return journal

    def begin(self, fields: Json) -> int:
        """Write fields down; returns a token. Raises AuditError."""
        offset = self._file.append(_OPEN + canonical(fields) + b"\n")
        token, self._next = self._next, self._next + 1
        self._open[token] = (offset, fields)
        return token

    def hold(self, fields: Json) -> int:
        """As begin(), in memory alone: for whoever goes on when nothing can be written."""
        token, self._next = self._next, self._next + 1
        self._open[token] = (_NOWHERE, fields)
        return token

    def fields(self, token: int) -> Json:
        """Raises KeyError for a token that is not open."""
        return self._open[token][1]

    def strike(self, token: int) -> None:
        """The record of this request is in the trail."""
        offset, _ = self._open.pop(token)
        if offset != _NOWHERE:
            self._file.patch(offset, _DONE)
        if not self._open:
            self._file.truncate(0)
        elif self._file.size > max(_COMPACT, 4 * self._floor):
            self._compact()

    def tokens(self) -> list[int]:
        """Of what is open, oldest first."""
        return list(self._open)

    def close(self) -> None:
        self._file.close()

    def _take_up(self) -> None:
        offset = 0
        for line in self._file.read(self._file.size, 0).splitlines(keepends=True):
            if not line.endswith(b"\n"):  # never acknowledged
                break
            if line.startswith(_OPEN):
                with contextlib.suppress(ValueError):
                    self._open[self._next] = (offset, json.loads(line[1:]))
                    self._next += 1
            offset += len(line)
        self._file.truncate(offset if self._open else 0)

    def _compact(self) -> None:
        """Write the open ones to a fresh file and put it in this one's place: at every instant one of the two is whole."""
        fresh = self._file.path.with_name(self._file.path.name + ".new")
        fresh.unlink(missing_ok=True)
        file = LineFile.open(fresh)
        try:
            moved = {token: (file.append(_OPEN + canonical(fields) + b"\n"), fields) for token, (_, fields) in self._open.items()}
            fresh.rename(self._file.path)
        except OSError:  # no space for the copy: the old file goes on
            file.close()
            fresh.unlink(missing_ok=True)
            return
        self._file.close()
        file.path = self._file.path
        self._file, self._open, self._floor = file, moved, file.size
