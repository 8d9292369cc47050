"""One record by its name, and what was in force when it was written.

Owns the names that a person may type: `41-9f3ac2d1e0b4` as a refusal carries it, the beginning of a hash, or a seq. Whole trails are looked
through as octets, and only lines that may be the one are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stockade.audit import parts
from stockade.audit.chain import BrokenLine, unseal
from stockade.audit.read import is_record
from stockade.audit.record import Json
from stockade.types import StockadeError

_NAME = re.compile(r"(?:(?P<seq>\d{1,18})-)?(?P<hash>[0-9a-f]{8,64})|(?P<alone>\d{1,7})")
_SANDBOX = re.compile(rb'"sandbox":\{[^{}]*"id":"([^"]{0,64})"')
_SAYS = b'"policy_sha256":"'


@dataclass(frozen=True, slots=True)
class Place:
    """A record, where it stands, and the last record before it in which its sandbox said what its policy is; None when there is none."""

    record: Json
    trail: Path
    file: Path
    line: int
    policy: Json | None


def find(name: str, trails: Sequence[Path]) -> list[Place]:
    """Every record of that name. Raises StockadeError: it is no name, or a trail cannot be read."""
    wanted = _NAME.fullmatch(name.strip().lower())
    if wanted is None:
        message = f"{name} is no name of a record"
        raise StockadeError(message, hint="as a refusal carries it under `record`: 41-9f3ac2d1e0b4; or its seq", code="bad_record_name")
    seq = wanted["seq"] or wanted["alone"]
    marks = [b'"hash":"%s' % wanted["hash"].encode()] if wanted["hash"] else []
    marks += [b'"seq":%s,' % str(int(seq)).encode()] if seq else []
    found: list[Place] = []
    for trail in trails:
        try:
            found += _in(trail, marks)
        except OSError as error:
            raise StockadeError(
                f"cannot read {trail}: {error.strerror}", hint="run as the agent's user", code="audit_unreadable"
            ) from error
    return found


def _in(trail: Path, marks: Sequence[bytes]) -> Iterator[Place]:
    said: dict[bytes, bytes] = {}  # the last line of each sandbox that says what its policy is
    for name, file in parts.files(trail):
        for number, raw in enumerate(file, 1):
            if _SAYS in raw and (sandbox := _SANDBOX.search(raw)):
                said[sandbox[1]] = raw
            if not all(mark in raw for mark in marks) or (record := _read(raw)) is None or not _is(record, marks):
                continue
            yield Place(record, trail, name, number, _policy(said, record))


def _is(record: Json, marks: Sequence[bytes]) -> bool:
    """A mark may stand in a text of another record: what counts is the record's own fields."""
    own = (b'"hash":"%s' % record["hash"].encode(), b'"seq":%d,' % record["seq"])
    return all(any(one.startswith(mark) for one in own) for mark in marks)


def _policy(said: dict[bytes, bytes], record: Json) -> Json | None:
    raw = said.get(record["sandbox"]["id"].encode(errors="replace"))
    return _read(raw) if raw is not None else None


def _read(raw: bytes) -> Json | None:
    try:
        line = unseal(raw.rstrip(b"\n"))
    except BrokenLine:
        return None
    return line if is_record(line) else None
