"""The elements of one JSON array that comes in pieces, as Gemini streams without `alt=sse`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from stockade.privacy.extract.sse import Frame, demand_short

_MARK = re.compile(rb'["\\{}\[\]]')
_COMMA = b",\r\n"


@dataclass(frozen=True, slots=True)
class Element:
    raw: bytes
    closes: bool = False

    @property
    def data(self) -> bytes | None:
        return self.raw

    def write(self, data: bytes) -> bytes:
        return data

    def another(self, data: bytes) -> bytes:
        return data + _COMMA

    def after(self, more: bytes) -> bytes:
        return more


@dataclass(frozen=True, slots=True)
class Between:
    """What stands around the elements. closes: from the closing bracket on."""

    raw: bytes
    closes: bool
    data: None = None

    def write(self, data: bytes) -> bytes:
        return data

    def another(self, data: bytes) -> bytes:
        return data

    def after(self, more: bytes) -> bytes:
        return _COMMA + more.removesuffix(_COMMA) if more else b""


class Elements:
    """The array that Gemini streams without `alt=sse`: each element of it is a message."""

    def __init__(self) -> None:
        self._buffer, self._seen = bytearray(), 0
        self._depth, self._string, self._over = 0, False, False

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while not self._over and (match := _MARK.search(self._buffer, self._seen)):
            mark, self._seen = match.group(), match.end()
            if mark == b"\\":
                if self._seen == len(self._buffer):
                    self._seen -= 1  # what is escaped is still to come
                    break
                self._seen += 1
            elif mark == b'"':
                self._string = not self._string
            elif self._string:
                continue
            elif mark in b"{[":
                if self._depth == 1:
                    yield from self._between(self._seen - 1)
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 1:
                    yield Element(self._take(self._seen))
                elif self._depth < 1:
                    yield from self._between(self._seen - 1)
                    self._over = True
                    yield Between(self._take(1), closes=True)
            demand_short(self._seen)
        else:
            self._seen = len(self._buffer)
        if self._over or (self._depth <= 1 and not self._string):
            yield from self._between(len(self._buffer))
        demand_short(len(self._buffer))

    def end(self) -> Iterator[Frame]:
        yield from self._between(len(self._buffer))

    def rest(self) -> bytes:
        return self._take(len(self._buffer))

    def _between(self, size: int) -> Iterator[Frame]:
        if size:
            yield Between(self._take(size), closes=False)

    def _take(self, size: int) -> bytes:
        raw = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._seen = max(0, self._seen - size)
        return raw
