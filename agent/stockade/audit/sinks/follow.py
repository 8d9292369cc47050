"""The trail from a position on, over all of its files, while somebody writes and rotates it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import BinaryIO

from stockade.audit.parts import closed, following, numbered, opened
from stockade.audit.record import Json
from stockade.audit.sinks.cursor import Position


def current(trail: Path) -> Position:
    """Behind the last whole line that is there."""
    there = closed(trail)
    number = (there[-1] if there else 0) + 1
    last = Position(number)
    for one in (*there[-1:], number):
        last = _last(trail, one) or last
    return Position(number, last.offset if last.number == number else 0, last.seq, last.hash)


def _last(trail: Path, number: int) -> Position | None:
    try:
        with opened(trail, number) as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - (1 << 20)))
            data = file.read()
    except FileNotFoundError:
        return None
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].splitlines()
    if not lines:
        return None
    line = json.loads(lines[-1])
    seq = line["checkpoint"]["seq"] if "checkpoint" in line else line["seq"]
    return Position(number, end - len(data) + whole, int(seq), str(line["hash"]))


class Follower:
    """position: behind the line that was taken last. lost: records that were gone before they could be taken."""

    def __init__(self, trail: Path, position: Position) -> None:
        self._trail, self.position, self.lost = trail, position, 0
        self._file: BinaryIO | None = None
        self._checked = position == Position()

    def take(self) -> tuple[bytes, Json] | None:
        """The next record, as it stands there without its newline, and parsed; None: there is none yet. Raises OSError."""
        while True:
            raw = self._line()
            if raw is None:
                return None
            at = self.position
            try:
                line = json.loads(raw)
                prev, digest = str(line["prev"]), str(line["hash"])
                seq = int(line["checkpoint"]["seq"] if "checkpoint" in line else line["seq"])
            except (ValueError, KeyError, TypeError):  # somebody damaged it: that is for `audit verify` to say
                self.position = Position(at.number, at.offset + len(raw), at.seq, at.hash)
                self.lost += 1
                continue
            if not self._checked and prev != at.hash:
                self._find()
                continue
            self._checked = True
            self.position = Position(at.number, at.offset + len(raw), seq, digest)
            if "checkpoint" not in line:
                return raw[:-1], line

    def behind(self, since: Position | None = None) -> int:
        """Octets of the trail behind a position, or that are still to be taken."""
        since = since or self.position
        size = 0
        for number in closed(self._trail):
            if number >= since.number:
                with contextlib.suppress(FileNotFoundError):
                    size += numbered(self._trail, number).stat().st_size
        with contextlib.suppress(FileNotFoundError):
            size += self._trail.stat().st_size
        return max(0, size - since.offset)

    def rewind(self, position: Position) -> None:
        self.close()
        self.position = position

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _line(self) -> bytes | None:
        """The next whole line. Does not move the position."""
        while True:
            if self._file is None and not self._open():
                return None
            assert self._file is not None
            size = self._file.seek(0, 2)
            if size < self.position.offset:  # it is another file
                self._elsewhere(self.position.number)
                continue
            self._file.seek(self.position.offset)
            raw = self._file.readline()
            if raw.endswith(b"\n"):
                return raw
            if not numbered(self._trail, self.position.number).exists():
                return None
            self._file.seek(self.position.offset)  # it was rotated: whatever was written before that is in it now
            raw = self._file.readline()
            if raw.endswith(b"\n"):
                return raw
            self.close()
            self.position = Position(following(self._trail, self.position.number), 0, self.position.seq, self.position.hash)

    def _open(self) -> bool:
        """The file of the position, or the next that is there when that one is gone. False: there is no trail yet."""
        there = closed(self._trail)
        if self.position.number not in (*there, (there[-1] if there else 0) + 1):
            self._elsewhere(following(self._trail, self.position.number))
        try:
            self._file = opened(self._trail, self.position.number)
        except FileNotFoundError:
            return False
        return True

    def _elsewhere(self, number: int) -> None:
        self._checked = False
        self.position = Position(number, 0, self.position.seq, self.position.hash)

    def _find(self) -> None:
        """What stands at the position does not follow it: files were removed, or it is another trail. Goes on behind the line that was
        taken last where it still is, else at the oldest that is there; what lies between is lost.
        """
        wanted, first = self.position, None
        there = closed(self._trail)
        self.rewind(Position(there[0] if there else 1))
        self._checked = True
        while (raw := self._line()) is not None:
            try:
                line = json.loads(raw)
                seq, digest = line["checkpoint"]["seq"] if "checkpoint" in line else line["seq"], line["hash"]
            except (ValueError, KeyError, TypeError):
                seq, digest = self.position.seq, ""
            if first is None:
                first = Position(self.position.number, 0, max(0, int(seq) - 1), str(line.get("prev", "")))
            self.position = Position(self.position.number, self.position.offset + len(raw), int(seq), str(digest))
            if digest == wanted.hash:
                return
        if first is not None:
            self.lost += max(0, first.seq - wanted.seq)
            self.rewind(first)
