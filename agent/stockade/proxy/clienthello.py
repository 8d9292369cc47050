"""The first flight of a TLS client, read without terminating it (RFC 8446, 4.1.2; RFC 6066, 3).

Only what a relay needs: is it a ClientHello, and which name does it give. A handshake message may be cut over many records; the caller
bounds the bytes and the time.
"""

from __future__ import annotations

from dataclasses import dataclass

CLIENT_HELLO, SERVER_NAME, HOST_NAME = 0x01, 0x0000, 0x00
RECORD_MAXIMUM = 2**14
RECORDS = 1024  # of one ClientHello: every client sends one or two


@dataclass(frozen=True, slots=True)
class ClientHello:
    """server_name: as sent, or None. With ECH this is the outer name, which is the public one: the relay compares it all the same."""

    server_name: str | None


def looks_like_tls(data: bytes) -> bool:
    """Whether data may begin a TLS handshake record; one byte is enough to say no."""
    return data[:1] == b"\x16" and data[1:2] in (b"", b"\x03")


class _Cursor:
    """Bounded reading of length-prefixed vectors. Raises ValueError past the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("ClientHello: a length points past its end")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets))

    def vector(self, octets: int) -> _Cursor:
        return _Cursor(self.take(self.number(octets)))

    def __bool__(self) -> bool:
        return self.at < len(self.data)


def parse(data: bytes) -> ClientHello | None:
    """The ClientHello at the start of data, None while it is incomplete. Raises ValueError when it is not one."""
    message = bytearray()
    at = records = 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4]):
        if records == RECORDS:
            raise ValueError("a ClientHello in too many records")
        record = data[at : at + 5]
        if record and not looks_like_tls(record):
            raise ValueError("not a TLS handshake record")
        if len(record) < 5:
            return None
        size = int.from_bytes(record[3:5])
        if not 0 < size <= RECORD_MAXIMUM:
            raise ValueError("TLS record of impossible size")
        message += data[at + 5 : at + 5 + size]
        if message and message[0] != CLIENT_HELLO:
            raise ValueError("not a ClientHello")
        if len(data) < at + 5 + size:
            return None
        at += 5 + size
        records += 1
    return ClientHello(_server_name(_Cursor(bytes(message[4 : 4 + int.from_bytes(message[1:4])]))))


def _server_name(hello: _Cursor) -> str | None:
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    names: list[str] = []
    if not hello:
        return None
    extensions = hello.vector(2)
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind != SERVER_NAME:
            continue
        entries = content.vector(2)
        while entries:
            name_type, name = entries.number(1), entries.vector(2).data
            if name_type == HOST_NAME:
                names.append(name.decode("ascii", "replace"))
    if len(names) > 1:
        raise ValueError("ClientHello: more than one server name")
    return names[0] if names else None
