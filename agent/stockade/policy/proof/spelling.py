"""Spelling: which texts are canonical paths, read one character at a time. The table in proxy/canonical.py is its source, a test holds both
together; length, which no list of globs speaks of, is not counted here.
"""

from __future__ import annotations

from typing import NamedTuple

UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
RESERVED = frozenset("!$&'()*+,;=:@")
HEX = frozenset("0123456789ABCDEF")

_PLAIN = frozenset(map(ord, UNRESERVED)) | {0x5C, 0x7F, *range(0x20)}  # spelt out, or refused: never encoded
_ANY_HEX = HEX | set("abcdef")


class _Reading(NamedTuple):
    """How far a path is read.

    part: what a server that drops `;…` or decodes %2F may see of this segment so far: "start" (nothing, right after a slash), "none"
    (nothing, after a %2F), ".", "..", or "text". encoding: `%` and its first digit, while one is being read. doubled: hex digits since a
    %25, -1 when that does not matter. wanted: the continuation octets of UTF-8 that must follow, each as its lowest and highest value.
    dot: the last character is one.
    """

    part: str = "before"
    encoding: str = ""
    doubled: int = -1
    wanted: tuple[tuple[int, int], ...] = ()
    dot: bool = False


class Spelling:
    """The canonical paths as an automaton whose states are numbered as they are met; 0 is for what no canonical path begins with.

    plain: only those that every server reads alike (`readings` of proxy/canonical.py): without `%` and `;`, and no dot ends a name.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._plain = plain
        self._readings: list[_Reading | None] = [None, _Reading()]
        self._numbers: dict[_Reading | None, int] = {None: 0, _Reading(): 1}
        self._table: dict[tuple[int, str], int] = {}
        self.start = 1

    def step(self, state: int, character: str) -> int:
        """The state behind one more character of a spelling. States are numbered as they are reached."""
        reached = self._table.get((state, character))
        if reached is None:
            reading = self._readings[state]
            after = None if reading is None or (self._plain and not _is_plain(reading, character)) else _read(reading, character)
            number = self._numbers.setdefault(after, len(self._readings))
            if number == len(self._readings):
                self._readings.append(after)
            reached = self._table[state, character] = number
        return reached

    def accepts(self, state: int) -> bool:
        reading = self._readings[state]
        if reading is None or reading.encoding or reading.wanted or (self._plain and reading.dot):
            return False
        return reading.part not in ("before", ".", "..")


def _is_plain(reading: _Reading, character: str) -> bool:
    return character not in "%;" and not (character == "/" and reading.dot)


def _read(reading: _Reading, character: str) -> _Reading | None:
    """The reading one character on; None when no canonical path goes on like that."""
    if reading.part == "before":
        return _Reading("start") if character == "/" else None
    if reading.encoding:
        return _encoded(reading, character)
    if reading.wanted and character != "%":
        return None
    doubled = -1
    if reading.doubled >= 0 and character in _ANY_HEX:
        if reading.doubled:
            return None
        doubled = 1
    if character == "/":
        return None if reading.part in ("start", ".", "..") else _Reading("start")
    if character == "%":
        return _Reading(reading.part, "%", -1, reading.wanted)
    if character == ";":
        return _closed(reading.part, "text", doubled)
    if character == ".":
        return _Reading({"start": ".", "none": ".", ".": ".."}.get(reading.part, "text"), "", doubled, (), True)
    return _Reading("text", "", doubled) if character in UNRESERVED or character in RESERVED else None


def _encoded(reading: _Reading, character: str) -> _Reading | None:
    if character not in HEX:
        return None
    if reading.encoding == "%":
        return _Reading(reading.part, "%" + character, -1, reading.wanted)
    octet = int(reading.encoding[1] + character, 16)
    if reading.wanted:
        (lowest, highest), *others = reading.wanted
        return _Reading("text", "", -1, tuple(others)) if lowest <= octet <= highest else None
    if octet >= 0x80:
        wanted = _continuations(octet)
        return None if wanted is None else _Reading("text", "", -1, wanted)
    if octet in _PLAIN:
        return None
    if octet == 0x2F:
        return _closed(reading.part, "none", -1)
    if octet == 0x3B:
        return _closed(reading.part, "text", -1)
    return _Reading("text", "", 0 if octet == 0x25 else -1)


def _closed(part: str, after: str, doubled: int) -> _Reading | None:
    """A server may end the segment here: then it must not be dots."""
    return None if part in (".", "..") else _Reading(after, "", doubled)


def _continuations(octet: int) -> tuple[tuple[int, int], ...] | None:
    """RFC 3629, section 4: what follows a first octet, with no overlong form and no surrogate."""
    any_ = (0x80, 0xBF)
    if 0xC2 <= octet <= 0xDF:
        return (any_,)
    if 0xE0 <= octet <= 0xEF:
        return ({0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F)}.get(octet, any_), any_)
    if 0xF0 <= octet <= 0xF4:
        return ({0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}.get(octet, any_), any_, any_)
    return None
