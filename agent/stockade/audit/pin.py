"""The pin: PATH.head, where the end of a trail is written down a second time, and copies of it elsewhere.

Owns its form, `{"hash","missed","seq"}` in a line of constant width that is overwritten in place: that costs a microsecond and no space, so
it is right after every record, also on a full disk. missed: records that could not be written since the last one that could.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from stockade.audit.chain import Head
from stockade.audit.file import AuditError, LineFile

_WIDTH = 64 + 30 + 20 + 12  # a hash, the JSON around it, a seq, a count


class Pin:
    """Not thread-safe: the trail holds the lock. copy: in a second directory, written at checkpoints only, for it may be slow."""

    def __init__(self, file: LineFile, copy: LineFile | None) -> None:
        self._file, self._copy = file, copy

    @classmethod
    def open(cls, trail: Path, elsewhere: Path | None) -> Pin:
        """Raises AuditError."""
        file = LineFile.open(beside(trail, "head"), lock=True)
        try:
            return cls(file, None if elsewhere is None else LineFile.open(copy_of(trail, elsewhere)))
        except BaseException:
            file.close()
            raise

    def read(self) -> tuple[Head, int]:
        """What it holds, and how many were missed; what the copy says, where that one knows of more."""
        data = self._file.read(self._file.size, 0)
        head, missed = read_pin(data), _missed(data)
        if self._copy is not None:
            other = self._copy.read(self._copy.size, 0)
            there = read_pin(other)
            if there.seq > head.seq:
                head, missed = there, _missed(other)
            elif there.seq == head.seq:
                missed = max(missed, _missed(other))
        return head, missed

    def set(self, head: Head, missed: int) -> None:
        """Raises AuditError."""
        _write(self._file, head, missed)

    def copy(self, head: Head, missed: int) -> None:
        """To the second place, and on the disk there. Raises AuditError."""
        if self._copy is not None:
            _write(self._copy, head, missed)
            self._copy.sync()

    def note(self, head: Head, missed: int) -> None:
        """How many are missed, in whichever of the two places takes it."""
        with contextlib.suppress(AuditError):
            self.set(head, missed)
            return
        if self._copy is not None:
            with contextlib.suppress(AuditError):
                _write(self._copy, head, missed)

    def close(self) -> None:
        self._file.close()
        if self._copy is not None:
            self._copy.close()


def beside(path: Path, what: str) -> Path:
    """PATH.head, PATH.journal, PATH.key, PATH.pub."""
    return path.with_name(f"{path.name}.{what}")


def copy_of(trail: Path, directory: Path) -> Path:
    """Where the pin of a trail stands in a directory that many trails share."""
    return directory / ("-".join(trail.absolute().parts[1:]) + ".head")


def read_pin(data: bytes) -> Head:
    """The head in a PATH.head. A file that is empty or torn pins nothing."""
    try:
        value = json.loads(data)
        return Head(int(value["seq"]), str(value["hash"]))
    except (ValueError, KeyError, TypeError):
        return Head()


def _missed(data: bytes) -> int:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return int(json.loads(data)["missed"])
    return 0


def _write(file: LineFile, head: Head, missed: int) -> None:
    line = f'{{"hash":"{head.hash}","missed":{missed},"seq":{head.seq}}}'.ljust(_WIDTH) + "\n"
    if file.size:
        file.patch(0, line.encode("ascii"))
    else:
        file.append(line.encode("ascii"))
