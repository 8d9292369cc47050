"""The chain: how one line vouches for all before it.

Every line, record or checkpoint, carries `prev`, the hash of the line before it (64 zeros for the first), and `hash`, the SHA-256 of its
own canonical JSON without `hash`. A line is written as that JSON with `,"hash":"…"}` in place of the last brace, so a verifier can hash
the bytes it reads. Pure: no files, no keys.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from stockade.audit.record import Json, canonical

GENESIS = "0" * 64
_OPEN, _CLOSE = b',"hash":"', b'"}'
_TAIL = len(_OPEN) + 64 + len(_CLOSE)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: seq of its last record (0: none), hash of its last line."""

    seq: int = 0
    hash: str = GENESIS


class BrokenLine(ValueError):
    """A line that is not one sealed JSON object, or whose hash is not its own."""


def seal(fields: Json, prev: str) -> tuple[bytes, str]:
    """One line, newline included, and its hash. Adds prev to fields."""
    fields["prev"] = prev
    body = canonical(fields)
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + _OPEN + digest.encode("ascii") + _CLOSE + b"\n", digest


def demand_hash(line: bytes) -> None:
    """Raises BrokenLine when the bytes of a line, without its newline, are not those that its hash is of."""
    if line[-_TAIL : -_TAIL + len(_OPEN)] != _OPEN or line[-len(_CLOSE) :] != _CLOSE:
        raise BrokenLine("not a line of this trail")
    if hashlib.sha256(line[:-_TAIL] + b"}").hexdigest().encode("ascii") != line[-_TAIL + len(_OPEN) : -len(_CLOSE)]:
        raise BrokenLine("changed: its hash does not match what it says")


def unseal(line: bytes) -> Json:
    """The object of one line, without its newline; hash included. Raises BrokenLine when its bytes are not what was sealed."""
    demand_hash(line)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BrokenLine("not JSON") from error
    if not isinstance(value, dict) or not isinstance(value.get("prev"), str):
        raise BrokenLine("not a line of this trail")
    return value


def follow(head: Head, line: Json) -> Head:
    """The head after an unsealed line. A record moves seq; a checkpoint leaves it."""
    return Head(head.seq if "checkpoint" in line else int(line["seq"]), str(line["hash"]))
