"""Reading a trail: its records in order, the last ones, those that match, those still to come.

Owns how lines are found and filtered. A line that is not what the agent sealed is passed on as Broken, never hidden and never trusted:
what is wrong with it is for `audit verify` to say.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from types import UnionType
from typing import BinaryIO

from stockade.audit.chain import BrokenLine, unseal
from stockade.audit.record import Json
from stockade.types import StockadeError

POLL_SECONDS = 0.2

_Shape = Mapping[str, type | UnionType]

# What is read of a record. Anybody who can write the file can put a hash to any JSON.
_RECORD: _Shape = {
    "seq": int,
    "time": str,
    "action": str,
    "decision": str,
    "reason": str,
    "enforced": bool,
    "rule": str | None,
    "pid": int | None,
}
_PARTS: Mapping[str, _Shape] = {
    "sandbox": {"id": str, "name": str, "generation": int},
    "binary": {"name": str, "path": str, "script": str | None},
    "destination": {"host": str, "port": int | None},
    "http": {"method": str, "path": str, "status": int | None, "response_bytes": int | None},
}
_NEEDED = "sandbox"


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that is no record. number: 1-based."""

    number: int
    problem: str


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show: every field that is set must match, host and binary as shell patterns. sandbox: id or name."""

    sandbox: str | None = None
    action: str | None = None
    binary: str | None = None
    host: str | None = None
    decision: str | None = None
    reason: str | None = None

    def matches(self, record: Json) -> bool:
        sandbox, binary, destination = record.get("sandbox") or {}, record.get("binary") or {}, record.get("destination") or {}
        return (
            (self.sandbox is None or self.sandbox in (sandbox.get("id"), sandbox.get("name")))
            and all(want is None or record.get(name) == want for name, want in self._exact())
            and _like(self.binary, binary.get("name"), binary.get("path"))
            and _like(self.host, destination.get("host"))
        )

    def _exact(self) -> tuple[tuple[str, str | None], ...]:
        return ("action", self.action), ("decision", self.decision), ("reason", self.reason)


FILTERS = tuple(field.name for field in fields(Filter))


def _like(pattern: str | None, *values: str | None) -> bool:
    return pattern is None or any(value is not None and fnmatchcase(value, pattern) for value in values)


def _is_record(line: Json) -> bool:
    def has(value: object, shape: _Shape) -> bool:
        return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in shape.items())

    detail = line.get("detail")
    return (
        has(line, _RECORD)
        and all(has(line.get(part), shape) or (line.get(part) is None and part != _NEEDED) for part, shape in _PARTS.items())
        and isinstance(detail, dict)
        and all(isinstance(item, str | int) for value in detail.values() for item in (value if isinstance(value, list) else [value]))
    )


def read(path: Path, wanted: Filter, *, last: int | None = None, follow: bool = False) -> Iterator[Json | Broken]:
    """The records that match, oldest first; checkpoints are left out. Raises StockadeError when there is no such file.

    last: only so many of those that are there now. follow: then those that come, for ever.
    """
    try:
        with path.open("rb") as file:
            lines = _Lines(file)
            if last is None:
                yield from lines.matching(wanted)
            else:
                yield from deque(lines.matching(wanted), maxlen=last)
            while follow:
                time.sleep(POLL_SECONDS)
                yield from lines.matching(wanted)
    except OSError as error:
        hint = "name the file that --audit names"
        raise StockadeError(f"cannot read {path}: {error.strerror}", hint=hint, code="audit_unreadable") from error


class _Lines:
    """The whole lines of a file that may still grow."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._number = file, 0

    def matching(self, wanted: Filter) -> Iterator[Json | Broken]:
        """Those that are there now and were not taken before."""
        while True:
            start = self._file.tell()
            raw = self._file.readline()
            if not raw.endswith(b"\n"):  # the end, or a line in the making
                self._file.seek(start)
                return
            self._number += 1
            try:
                line = unseal(raw[:-1])
            except BrokenLine as problem:
                yield Broken(self._number, str(problem))
                continue
            if "checkpoint" in line:
                continue
            if not _is_record(line):
                yield Broken(self._number, "not a record")
            elif wanted.matches(line):
                yield line
