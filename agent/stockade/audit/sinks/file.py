"""Files: the records in another format, rotated as the settings say. The trail itself is not touched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from stockade.audit.file import AuditError, LineFile
from stockade.audit.rotate import surplus, turn
from stockade.audit.sinks.sink import ARRIVED, Failed, Item, Outcome
from stockade.settings.rotate import Rotate


class FileSink:
    """path holds no other writer's lines: it is locked."""

    def __init__(self, path: Path, rules: Rotate) -> None:
        self._path, self._rules = path, rules
        self._file: LineFile | None = None
        self._born = 0.0

    def send(self, batch: Sequence[Item]) -> Outcome:
        try:
            self._write(b"".join(item.text + b"\n" for item in batch))
        except (AuditError, OSError) as error:
            self.close()
            raise Failed(str(error)) from error
        return ARRIVED

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = LineFile.open(self._path, lock=True)
            self._born = self._path.stat().st_ctime if self._file.size else time.time()
            _, torn = self._file.tail(1)
            self._file.truncate(self._file.size - len(torn))  # of a process that was killed in the middle: the batch comes again
        old = self._rules.age is not None and time.time() - self._born >= self._rules.age
        if self._file.size and (self._file.size >= self._rules.size or old):
            done, self._file = self._file, turn(self._file)
            self._born = time.time()
            done.close()
            for file in surplus(self._path, self._rules.keep):
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
        self._file.append(data)
        self._file.sync()
