"""How far a sink has come: PATH.NAME.sink beside the trail. Written when batches have arrived: one may arrive twice, never not."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from stockade.audit.chain import GENESIS
from stockade.audit.file import LineFile

_WIDTH = 255


@dataclass(frozen=True, slots=True)
class Position:
    """Behind a line: of the file of that number, at that offset, with that hash. seq: of the last record."""

    number: int = 1
    offset: int = 0
    seq: int = 0
    hash: str = GENESIS


class Cursor:
    """Held by one process at a time. sent, lost: in all the sink's life. told: of those lost, how many are on record."""

    def __init__(self, file: LineFile, position: Position, sent: int, lost: int, told: int) -> None:
        self.position, self.sent, self.lost, self.told = position, sent, lost, told
        self._file = file

    @classmethod
    def open(cls, trail: Path, name: str, start: Position) -> Cursor:
        """start: where a sink begins that is new to this trail. Raises AuditError, also when another process holds it."""
        file = LineFile.open(file_of(trail, name), lock=True)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(file.read(file.size, 0))
            return cls(file, Position(**said["position"]), int(said["sent"]), int(said["lost"]), int(said["told"]))
        cursor = cls(file, start, 0, 0, 0)
        cursor.save()
        return cursor

    def save(self) -> None:
        """Raises AuditError."""
        said = {"position": asdict(self.position), "sent": self.sent, "lost": self.lost, "told": self.told}
        line = json.dumps(said).ljust(_WIDTH).encode("ascii") + b"\n"
        if self._file.size:
            self._file.patch(0, line)
        else:
            self._file.append(line)

    def close(self) -> None:
        self._file.close()


def file_of(trail: Path, name: str) -> Path:
    return trail.with_name(f"{trail.name}.{name}.sink")
