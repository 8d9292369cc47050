"""Server-sent events (WHATWG HTML, 9.2.6) and lines of JSON, cut out of octets in pieces; each can be written with other data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from stockade.privacy.extract.call import Unreadable

MESSAGE = 8 << 20  # octets of one message of a stream


class Frame(Protocol):
    """One message of a stream. raw: as it came. data: the JSON in it, None where there is none. closes: the stream says that it is over."""

    @property
    def raw(self) -> bytes: ...
    @property
    def data(self) -> bytes | None: ...
    @property
    def closes(self) -> bool: ...

    def write(self, data: bytes) -> bytes:
        """This message with other data."""

    def another(self, data: bytes) -> bytes:
        """One more message, after the form of this one."""

    def after(self, more: bytes) -> bytes:
        """More messages as they stand before this one."""


class Frames(Protocol):
    def feed(self, data: bytes) -> Iterator[Frame]:
        """Raises Unreadable, while `rest` has what was not given out."""

    def end(self) -> Iterator[Frame]:
        """What is left when the answer is over. Raises Unreadable where that is a piece of a message."""

    def rest(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Event:
    lines: tuple[bytes, ...]  # each with its end

    @property
    def raw(self) -> bytes:
        return b"".join(self.lines)

    @property
    def data(self) -> bytes | None:
        found = [_value(line) for line in self.lines if _is_data(line)]
        joined = b"\n".join(found)
        return joined if joined.strip() and not self.closes else None

    @property
    def closes(self) -> bool:
        return any(_is_data(line) and _value(line).strip() == b"[DONE]" for line in self.lines)

    def write(self, data: bytes) -> bytes:
        made, written = bytearray(), False
        for line in self.lines:
            if not _is_data(line):
                made += line
            elif not written:
                made += b"data: " + data + (_ending(line) or b"\n")
                written = True
        return bytes(made) if not self.lines[-1].strip(b"\r\n") else bytes(made) + b"\n"

    def another(self, data: bytes) -> bytes:
        return self.write(data)

    def after(self, more: bytes) -> bytes:
        return more


@dataclass(frozen=True, slots=True)
class Line:
    raw: bytes
    closes: bool = False

    @property
    def data(self) -> bytes | None:
        return self.raw if self.raw.strip() else None

    def write(self, data: bytes) -> bytes:
        return data + (_ending(self.raw) or b"\n")

    def another(self, data: bytes) -> bytes:
        return self.write(data)

    def after(self, more: bytes) -> bytes:
        return more


class Lines:
    """One JSON text a line."""

    def __init__(self) -> None:
        self._buffer, self._seen = bytearray(), 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while (at := self._buffer.find(b"\n", self._seen)) >= 0:
            demand_short(at)
            raw = bytes(self._buffer[: at + 1])
            del self._buffer[: at + 1]
            self._seen = 0
            yield Line(raw)
        self._seen = len(self._buffer)
        demand_short(self._seen)

    def end(self) -> Iterator[Frame]:
        raw = self.rest()
        if raw:
            yield Line(raw)

    def rest(self) -> bytes:
        raw = bytes(self._buffer)
        self._buffer.clear()
        self._seen = 0
        return raw


class Events:
    """An event ends with an empty line; a line ends with CR LF, LF or CR. Whether a CR is alone, only the next octet tells."""

    def __init__(self) -> None:
        self._buffer, self._seen = bytearray(), 0
        self._lines: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while (line := self._line()) is not None:
            self._lines.append(line)
            self._held += len(line)
            if not line.strip(b"\r\n"):
                yield self._event()
            demand_short(self._held)
        demand_short(self._held + len(self._buffer))

    def end(self) -> Iterator[Frame]:
        """A last event without its empty line: readers differ about it, so it is read."""
        if self._buffer:
            self._lines.append(bytes(self._buffer))
            self._buffer.clear()
        if self._lines:
            yield self._event()

    def rest(self) -> bytes:
        raw = b"".join(self._lines) + bytes(self._buffer)
        self._lines, self._held, self._seen = [], 0, 0
        self._buffer.clear()
        return raw

    def _event(self) -> Event:
        event = Event(tuple(self._lines))
        self._lines, self._held = [], 0
        return event

    def _line(self) -> bytes | None:
        ends = [at for mark in (b"\r", b"\n") if (at := self._buffer.find(mark, self._seen)) >= 0]
        if not ends:
            self._seen = len(self._buffer)
            return None
        at = min(ends)
        if self._buffer[at] == 0x0D:
            if at + 1 == len(self._buffer):
                self._seen = at
                return None
            at += self._buffer[at + 1] == 0x0A
        line = bytes(self._buffer[: at + 1])
        del self._buffer[: at + 1]
        self._seen = 0
        return line


def demand_short(size: int) -> None:
    """size: of one message so far, in bytes. Raises Unreadable."""
    if size > MESSAGE:
        raise Unreadable("too_large")


def _is_data(line: bytes) -> bool:
    return line.removeprefix(b"\xef\xbb\xbf").startswith(b"data:")


def _value(line: bytes) -> bytes:
    return line.removeprefix(b"\xef\xbb\xbf")[5:].removeprefix(b" ").rstrip(b"\r\n")


def _ending(line: bytes) -> bytes:
    return line[len(line.rstrip(b"\r\n")) :]
