"""Bedrock's binary messages (application/vnd.amazon.eventstream): lengths, headers, payload, each with its CRC32.

A message is the length of it all, the length of the headers, the CRC of these two; headers; payload; the CRC of everything before it.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from stockade.privacy.extract.call import Unreadable
from stockade.privacy.extract.sse import Frame, demand_short
from stockade.privacy.extract.tree import dump, parse_bytes

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Message:
    raw: bytes
    headers: bytes
    payload: bytes
    closes: bool = False

    @property
    def data(self) -> bytes | None:
        """The JSON that is the payload or, in base64, within it (invoke-with-response-stream). Raises Unreadable."""
        if not self.payload.strip():
            return None
        inner = self._inner()
        return self.payload if inner is None else inner

    def write(self, data: bytes) -> bytes:
        if self._inner() is not None:
            outer = parse_bytes(self.payload)
            assert isinstance(outer, dict)
            data = dump({**outer, "bytes": base64.b64encode(data).decode()}).encode()
        return framed(self.headers, data)

    def another(self, data: bytes) -> bytes:
        return self.write(data)

    def after(self, more: bytes) -> bytes:
        return more

    def _inner(self) -> bytes | None:
        outer = parse_bytes(self.payload)
        packed = outer.get("bytes") if isinstance(outer, dict) else None
        if not isinstance(packed, str):
            return None
        try:
            return base64.b64decode(packed, validate=True)
        except binascii.Error:
            raise Unreadable("base64") from None


def framed(headers: bytes, payload: bytes) -> bytes:
    lengths = struct.pack(">II", _PRELUDE.size + len(headers) + len(payload) + _CRC.size, len(headers))
    made = lengths + _CRC.pack(zlib.crc32(lengths)) + headers + payload
    return made + _CRC.pack(zlib.crc32(made))


class Messages:
    """The binary event stream of AWS (`application/vnd.amazon.eventstream`), by its lengths and both checksums of each message."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while len(self._buffer) >= _PRELUDE.size:
            size, headers, crc = _PRELUDE.unpack_from(self._buffer)
            if crc != zlib.crc32(self._buffer[:8]) or size < _PRELUDE.size + headers + _CRC.size:
                raise Unreadable("binary")
            demand_short(size)
            if len(self._buffer) < size:
                return
            raw = bytes(self._buffer[:size])
            if _CRC.unpack(raw[-4:])[0] != zlib.crc32(raw[:-4]):
                raise Unreadable("binary")
            del self._buffer[:size]
            start = _PRELUDE.size + headers
            yield Message(raw, raw[_PRELUDE.size : start], raw[start:-4])

    def end(self) -> Iterator[Frame]:
        if self._buffer:
            raise Unreadable("binary")
        yield from ()

    def rest(self) -> bytes:
        raw = bytes(self._buffer)
        self._buffer.clear()
        return raw
