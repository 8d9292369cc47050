"""Reading a trail: its records in order across rotation, the last ones, those that match, those still to come.

Owns how lines are found and filtered, one line in memory at a time. A line that is not what the agent sealed is passed on as Broken, never
hidden and never trusted: what is wrong with it is for `audit verify` to say.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from types import UnionType
from typing import BinaryIO

from stockade.audit import parts
from stockade.audit.chain import BrokenLine, unseal
from stockade.audit.record import Json
from stockade.types import StockadeError

POLL_SECONDS = 0.2
_BLOCK = 1 << 20  # octets that are read at once from the end

_Shape = Mapping[str, type | UnionType]

# What is read of a record. Anybody who can write the file can put a hash to any JSON.
_RECORD: _Shape = {
    "seq": int,
    "time": str,
    "action": str,
    "decision": str,
    "effect": str,
    "level": str,
    "reason": str,
    "enforced": bool,
    "rule": str | None,
    "pid": int | None,
    "ancestry": list,
}
_PARTS: Mapping[str, _Shape] = {
    "sandbox": {"id": str, "name": str, "policy": str, "generation": int, "labels": dict},
    "binary": {"name": str, "path": str, "script": str | None, "sha256": str, "exec_id": int | None, "identity": str},
    "destination": {"host": str, "port": int | None, "address": str | None},
    "http": {"method": str, "path": str, "status": int | None, "request_bytes": int | None, "response_bytes": int | None},
}
_NEEDED = "sandbox"


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that is no record. number: 1-based, in its file; 0 where it was met from the end."""

    number: int
    problem: str
    file: Path = Path()


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show: every field that is set must match, host, binary and rule as shell patterns. sandbox: id or name.

    since, until: times as the trail spells them; from the first on, before the second.
    """

    sandbox: str | None = None
    action: str | None = None
    binary: str | None = None
    host: str | None = None
    decision: str | None = None
    reason: str | None = None
    rule: str | None = None
    since: str | None = None
    until: str | None = None

    def matches(self, record: Json) -> bool:
        sandbox, binary, destination = record.get("sandbox") or {}, record.get("binary") or {}, record.get("destination") or {}
        return (
            (self.sandbox is None or self.sandbox in (sandbox.get("id"), sandbox.get("name")))
            and all(want is None or record.get(name) == want for name, want in self._exact())
            and _like(self.binary, binary.get("name"), binary.get("path"))
            and _like(self.host, destination.get("host"))
            and _like(self.rule, record.get("rule"))
            and (self.since is None or record["time"] >= self.since)
            and (self.until is None or record["time"] < self.until)
        )

    def _exact(self) -> tuple[tuple[str, str | None], ...]:
        return ("action", self.action), ("decision", self.decision), ("reason", self.reason)


FILTERS = tuple(field.name for field in fields(Filter))


def _like(pattern: str | None, *values: str | None) -> bool:
    return pattern is None or any(value is not None and fnmatchcase(value, pattern) for value in values)


def is_record(line: Json) -> bool:
    """Whether a line has the fields of a record, with values of their types: whoever reads it may rely on that."""

    def has(value: object, shape: _Shape) -> bool:
        return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in shape.items())

    detail, texts = line.get("detail"), [line.get("ancestry")]
    return (
        has(line, _RECORD)
        and all(has(line.get(part), shape) or (line.get(part) is None and part != _NEEDED) for part, shape in _PARTS.items())
        and isinstance(detail, dict)
        and all(isinstance(item, str | int) for value in detail.values() for item in (value if isinstance(value, list) else [value]))
        and all(isinstance(item, str) for value in texts if isinstance(value, list) for item in value)
        and all(isinstance(value, str) for value in line["sandbox"]["labels"].values())
    )


def read(path: Path, wanted: Filter, *, last: int | None = None, follow: bool = False) -> Iterator[Json | Broken]:
    """The records that match, oldest first, of all files of a trail; checkpoints are left out. Raises StockadeError when there is none.

    path: a trail, or one closed file of it, which is then all that is read. last: only so many of those that are there now. follow: then
    those that come, for ever, also in the files that follow after rotation.
    """
    try:
        alone = parts.trail_of(path) != path
        if last is None:
            yield from _forward(path, wanted, alone=alone, follow=follow)
            return
        there = [] if alone else parts.closed(path)
        number = there[-1] + 1 if there else 1
        with path.open("rb") if alone else parts.opened(path, number) as file:
            end = file.seek(0, os.SEEK_END)  # the last ones stand before it, those that come behind it
            earlier = [parts.numbered(path, each) for each in reversed(there)]
            yield from _last(file, end, path, earlier, wanted, last)
            if follow and not alone:
                lines = Lines(file, path)
                lines.skip(end)
                yield from _following(path, number, lines, wanted)
    except OSError as error:
        hint = "name the file that --audit names"
        raise StockadeError(f"cannot read {path}: {error.strerror}", hint=hint, code="audit_unreadable") from error


def _forward(path: Path, wanted: Filter, *, alone: bool, follow: bool) -> Iterator[Json | Broken]:
    if alone:
        with path.open("rb") as file:
            yield from Lines(file, path).matching(wanted)
        return
    there = parts.closed(path)
    number = there[0] if there else 1
    with parts.opened(path, number) as file:
        yield from _following(path, number, Lines(file, path), wanted, follow=follow)


def _following(path: Path, number: int, lines: Lines, wanted: Filter, *, follow: bool = True) -> Iterator[Json | Broken]:
    """What is left of a file, and then the files after it. number: its own."""
    with ExitStack() as stack:
        while True:
            over = parts.numbered(path, number).exists()  # before the reading: nobody writes on into a closed file
            yield from lines.matching(wanted)
            if over:
                number = parts.following(path, number)
                stack.close()
                lines = Lines(stack.enter_context(parts.opened(path, number)), path)
            elif not follow:
                return
            else:
                time.sleep(POLL_SECONDS)


def _last(file: BinaryIO, end: int, path: Path, earlier: Sequence[Path], wanted: Filter, count: int) -> Iterator[Json | Broken]:
    """The last so many, found from the end: a file of gigabytes costs what is shown of it."""
    found: deque[Json | Broken] = deque()
    with ExitStack() as stack:
        for number, name in enumerate([path, *earlier]):
            opened = file if number == 0 else stack.enter_context(name.open("rb"))
            for raw in backwards(opened, end if number == 0 else None):
                if len(found) >= count:
                    break
                one = _record_of(raw, 0, name)
                if one is not None and (isinstance(one, Broken) or wanted.matches(one)):
                    found.appendleft(one)
    yield from found


def backwards(file: BinaryIO, end: int | None = None) -> Iterator[bytes]:
    """The whole lines of a file without their ends, last one first. A line in the making is left out. end: where to begin."""
    at = file.seek(0, os.SEEK_END) if end is None else end
    rest, first = b"", True
    while at > 0:
        size = min(_BLOCK, at)
        at -= size
        file.seek(at)
        block = file.read(size) + rest
        rest, *lines = block.split(b"\n")
        if first and lines:
            lines.pop()  # what stands behind the last end of a line
            first = False
        yield from reversed(lines)
    if not first:
        yield rest


def _record_of(raw: bytes, number: int, path: Path) -> Json | Broken | None:
    """None: a checkpoint."""
    try:
        line = unseal(raw)
    except BrokenLine as problem:
        return Broken(number, str(problem), path)
    if "checkpoint" in line:
        return None
    return line if is_record(line) else Broken(number, "not a record", path)


class Lines:
    """The whole lines of a file that may still grow."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._number = file, path, 0

    def skip(self, end: int) -> None:
        """Take what stands before a place in the file as taken."""
        self._file.seek(0)
        while self._file.tell() < end:
            start = self._file.tell()
            if not self._file.readline().endswith(b"\n"):
                self._file.seek(start)
                return
            self._number += 1

    def matching(self, wanted: Filter) -> Iterator[Json | Broken]:
        """Those that are there now and were not taken before."""
        while True:
            start = self._file.tell()
            raw = self._file.readline()
            if not raw.endswith(b"\n"):  # the end, or a line in the making
                self._file.seek(start)
                return
            self._number += 1
            one = _record_of(raw[:-1], self._number, self._path)
            if isinstance(one, Broken) or (one is not None and wanted.matches(one)):
                yield one
