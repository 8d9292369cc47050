"""Reading a trail: its records in order across rotation, the last ones, those that match, those still to come.

Owns how lines are found and filtered, one line in memory at a time. A line that is not what the agent sealed is passed on as Broken, never
hidden and never trusted: what is wrong with it is for `audit verify` to say.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from types import NoneType
from typing import BinaryIO

from stockade.audit import parts
from stockade.audit.chain import BrokenLine, demand_hash, unseal
from stockade.audit.glance import GROUPS, Columns, Glance, glance, meant
from stockade.audit.record import Json
from stockade.types import StockadeError

POLL_SECONDS = 0.2
_BLOCK = 1 << 20  # octets that are read at once from the end

# What is read of a record, with the types that JSON gives. Anybody who can write the file can put a hash to any JSON.
_Shape = tuple[tuple[str, tuple[type, ...]], ...]
_TEXT, _NUMBER, _MAYBE_TEXT, _MAYBE_NUMBER = (str,), (int,), (str, NoneType), (int, NoneType)
_RECORD: _Shape = (
    *((name, _TEXT) for name in ("action", "decision", "effect", "level", "reason", "time")),
    *(("seq", _NUMBER), ("enforced", (bool,)), ("rule", _MAYBE_TEXT), ("pid", _MAYBE_NUMBER)),
    *(("ancestry", (list,)), ("detail", (dict,)), ("sandbox", (dict,))),
)
_SANDBOX: _Shape = (("id", _TEXT), ("name", _TEXT), ("policy", _TEXT), ("generation", _NUMBER), ("labels", (dict,)))
_PARTS: tuple[tuple[str, _Shape], ...] = (
    (
        "binary",
        (
            *(("name", _TEXT), ("path", _TEXT), ("script", _MAYBE_TEXT)),
            *(("sha256", _TEXT), ("exec_id", _MAYBE_NUMBER), ("identity", _TEXT)),
        ),
    ),
    ("destination", (("host", _TEXT), ("port", _MAYBE_NUMBER), ("address", _MAYBE_TEXT))),
    (
        "http",
        (
            *(("method", _TEXT), ("path", _TEXT), ("status", _MAYBE_NUMBER)),
            *(("request_bytes", _MAYBE_NUMBER), ("response_bytes", _MAYBE_NUMBER)),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that is no record. number: 1-based, in its file; 0 where it was met from the end."""

    number: int
    problem: str
    file: Path = Path()


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show: every field that is set must match, host, binary, rule, namespace and pod as shell patterns. sandbox: id or name.

    since, until: times as the trail spells them; from the first on, before the second. own: records of the trail itself pass whatever
    sandbox is asked for.
    """

    sandbox: str | None = None
    action: str | None = None
    binary: str | None = None
    host: str | None = None
    decision: str | None = None
    reason: str | None = None
    rule: str | None = None
    namespace: str | None = None
    pod: str | None = None
    since: str | None = None
    until: str | None = None
    own: bool = False

    def matches(self, record: Json) -> bool:
        """record: a whole one, as it stands in a trail. Both the record's own fields and the sandbox's labels have to fit."""
        sandbox, binary, destination = record.get("sandbox") or {}, record.get("binary") or {}, record.get("destination") or {}
        return (
            (self.sandbox is None or self.sandbox in (sandbox.get("id"), sandbox.get("name")) or (self.own and not sandbox.get("id")))
            and all(want is None or record.get(name) == want for name, want in self._exact())
            and _like(self.binary, binary.get("name"), binary.get("path"))
            and _like(self.host, destination.get("host"))
            and _like(self.rule, record.get("rule"))
            and all(_like(want, (sandbox.get("labels") or {}).get(name)) for name, want in self._labels() if want is not None)
            and (self.since is None or record["time"] >= self.since)
            and (self.until is None or record["time"] < self.until)
        )

    def _exact(self) -> tuple[tuple[str, str | None], ...]:
        return ("action", self.action), ("decision", self.decision), ("reason", self.reason)

    def _labels(self) -> tuple[tuple[str, str | None], ...]:
        """Of a pod."""
        return ("namespace", self.namespace), ("pod", self.pod)

    def checks(self) -> list[Callable[[Glance], bool]]:
        """As matches, of a record that nobody has parsed: all of them hold."""
        found: list[Callable[[Glance], bool]] = []
        for name, want in self._exact():
            if want is not None:
                found.append(partial(_is, name, want))
        if self.sandbox is not None:
            found.append(partial(_of, self.sandbox, self.own))
        if self.since is not None or self.until is not None:
            found.append(partial(_within, self.since or "", self.until))
        said = ((("binary", "path"), self.binary), (("host",), self.host), (("rule",), self.rule))
        for names, pattern in (*said, *(((name,), want) for name, want in self._labels())):
            if pattern is not None:
                found.append(partial(_fits, names, pattern))
        return found


def _is(name: str, want: str, seen: Glance) -> bool:
    return meant(seen[name]) == want


def _of(sandbox: str, own: bool, seen: Glance) -> bool:
    name, identity = meant(seen["sandbox"]), meant(seen["id"])
    return sandbox in (name, identity) or (own and not identity)


def _within(since: str, until: str | None, seen: Glance) -> bool:
    time = str(json.loads(seen["time"]))  # no two are alike: nothing to keep
    return since <= time and (until is None or time < until)


def _fits(names: Sequence[str], pattern: str, seen: Glance) -> bool:
    return any(isinstance(value := meant(seen[name]), str) and fnmatchcase(value, pattern) for name in names)


FILTERS = tuple(field.name for field in fields(Filter) if field.name != "own")


def _like(pattern: str | None, *values: str | None) -> bool:
    return pattern is None or any(value is not None and fnmatchcase(value, pattern) for value in values)


def is_record(line: Json) -> bool:
    """Whether a line has the fields of a record, with values of their types: whoever reads it may rely on that."""
    return (
        _has(line, _RECORD)
        and _has(line["sandbox"], _SANDBOX)
        and all(line.get(name) is None or _has(line[name], shape) for name, shape in _PARTS)
        and all(isinstance(value, str) for value in (*line["sandbox"]["labels"].values(), *line["ancestry"]))
        and all(
            isinstance(item, str | int) for value in line["detail"].values() for item in (value if isinstance(value, list) else [value])
        )
    )


def _has(value: object, shape: _Shape) -> bool:
    return type(value) is dict and all(type(value.get(name)) in kinds for name, kinds in shape)


type Take[T] = Callable[[bytes, int, Path], T | Broken | None]  # what is made of a line; number and file are where it stands


def read(path: Path, wanted: Filter, *, last: int | None = None, follow: bool = False) -> Iterator[Json | Broken]:
    """The records that match, oldest first, of all files of a trail; checkpoints are left out. Raises StockadeError when there is none.

    path: a trail, or one closed file of it, which is then all that is read. last: only so many of those that are there now. follow: then
    those that come, for ever, also in the files that follow after rotation.
    """
    yield from _read(path, _taking(wanted, lambda raw, _: _parsed(raw), lambda line: line), last, follow=follow)


def columns(path: Path, wanted: Filter, names: Sequence[str]) -> Iterator[Columns | Broken]:
    """As read, but of each record only some fields, as they are spelt: `glance.meant` says what they are. names: of `glance.GROUPS`."""
    only = names[0] if len(names) == 1 else None

    def glanced(_: bytes, seen: Glance) -> Columns:
        return (seen[only],) if only is not None else seen.group(*names)

    yield from _read(path, _taking(wanted, glanced, lambda line: tuple(_spelt(line, name) for name in names)), None, follow=False)


def _spelt(record: Json, name: str) -> bytes | None:
    found: object = record
    for key in GROUPS[name]:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return json.dumps(found).encode("ascii")


def _parsed(raw: bytes) -> Json:
    line: Json = json.loads(raw.decode("ascii"))
    return line


def _taking[T](wanted: Filter, glanced: Callable[[bytes, Glance], T], whole: Callable[[Json], T]) -> Take[T]:
    """A line is hashed, looked at, and parsed where that is not enough: most of a trail is not what one looks for."""
    checks = wanted.checks()

    def take(raw: bytes, number: int, path: Path) -> T | Broken | None:
        try:
            demand_hash(raw)
            seen = glance(raw)
            if seen is not None:
                for passes in checks:
                    if not passes(seen):
                        return None
                return glanced(raw, seen)
            line = unseal(raw)
        except BrokenLine as problem:
            return Broken(number, str(problem), path)
        if "checkpoint" in line:
            return None
        if not is_record(line):
            return Broken(number, "not a record", path)
        return whole(line) if wanted.matches(line) else None

    return take


def _read[T](path: Path, take: Take[T], last: int | None, *, follow: bool) -> Iterator[T | Broken]:
    try:
        alone = parts.trail_of(path) != path
        if last is None:
            yield from _forward(path, take, alone=alone, follow=follow)
            return
        there = [] if alone else parts.closed(path)
        number = there[-1] + 1 if there else 1
        with path.open("rb") if alone else parts.opened(path, number) as file:
            end = file.seek(0, os.SEEK_END)  # the last ones stand before it, those that come behind it
            earlier = [parts.numbered(path, each) for each in reversed(there)]
            yield from _last(file, end, path, earlier, take, last)
            if follow and not alone:
                lines = Lines(file, path)
                lines.skip(end)
                yield from _following(path, number, lines, take)
    except OSError as error:
        hint = "name the file that --audit names"
        raise StockadeError(f"cannot read {path}: {error.strerror}", hint=hint, code="audit_unreadable") from error


def _forward[T](path: Path, take: Take[T], *, alone: bool, follow: bool) -> Iterator[T | Broken]:
    if alone:
        with path.open("rb") as file:
            yield from Lines(file, path).taken(take)
        return
    there = parts.closed(path)
    number = there[0] if there else 1
    with parts.opened(path, number) as file:
        yield from _following(path, number, Lines(file, path), take, follow=follow)


def _following[T](path: Path, number: int, lines: Lines, take: Take[T], *, follow: bool = True) -> Iterator[T | Broken]:
    """What is left of a file, and then the files after it. number: its own."""
    with ExitStack() as stack:
        while True:
            over = parts.numbered(path, number).exists()  # before the reading: nobody writes on into a closed file
            yield from lines.taken(take)
            if over:
                number = parts.following(path, number)
                stack.close()
                lines = Lines(stack.enter_context(parts.opened(path, number)), path)
            elif not follow:
                return
            else:
                time.sleep(POLL_SECONDS)


def _last[T](file: BinaryIO, end: int, path: Path, earlier: Sequence[Path], take: Take[T], count: int) -> Iterator[T | Broken]:
    """The last so many, found from the end: a file of gigabytes costs what is shown of it."""
    found: deque[T | Broken] = deque()
    with ExitStack() as stack:
        for number, name in enumerate([path, *earlier]):
            opened = file if number == 0 else stack.enter_context(name.open("rb"))
            for raw in backwards(opened, end if number == 0 else None):
                if len(found) >= count:
                    break
                if (one := take(raw, 0, name)) is not None:
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

    def taken[T](self, take: Take[T]) -> Iterator[T | Broken]:
        """What is made of those that are there now and were not taken before."""
        while True:
            start = self._file.tell()
            raw = self._file.readline()
            if not raw.endswith(b"\n"):  # the end, or a line in the making
                self._file.seek(start)
                return
            self._number += 1
            one = take(raw[:-1], self._number, self._path)
            if one is not None:
                yield one
