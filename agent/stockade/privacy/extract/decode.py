"""Octets of a body as its sender meant them: content encodings undone within bounds, charset and form told by the head.

A bomb costs no more than LARGEST octets and is refused. So is what is encoded in an unknown way, twice declared, or followed by more.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence

import brotli

from stockade.privacy.extract.call import Unreadable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LARGEST = 32 * 1024 * 1024  # octets of a decoded body: what the largest of the providers takes
_STEP = 1 << 20
_ENCODINGS = 2  # on top of each other
_UTF8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


def encodings(headers: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """In the order they were applied. Raises Unreadable."""
    named = [part.strip().lower() for name, value in headers if name.lower() == "content-encoding" for part in value.split(",")]
    found = tuple(each for each in named if each not in ("", "identity"))
    if len(found) > _ENCODINGS or any(each not in _DECODERS for each in found):
        raise Unreadable("encoding")
    return found


def content_type(headers: Sequence[tuple[str, str]]) -> tuple[str, dict[str, str]]:
    """The media type and its parameters. Raises Unreadable for two that differ, and for a charset that is not UTF-8."""
    found = {value.strip() for name, value in headers if name.lower() == "content-type"}
    if len(found) > 1:
        raise Unreadable("encoding")
    media_type, _, rest = next(iter(found), "").partition(";")
    parameters: dict[str, str] = {}
    for part in rest.split(";"):
        name, _, value = part.partition("=")
        if name.strip() and parameters.setdefault(name.strip().lower(), value.strip().strip('"')) != value.strip().strip('"'):
            raise Unreadable("encoding")
    if parameters.get("charset", "").lower() not in _UTF8:
        raise Unreadable("encoding")
    return media_type.strip().lower(), parameters


def decoded(body: bytes, applied: Sequence[str]) -> bytes:
    """Raises Unreadable."""
    if len(body) > LARGEST:
        raise Unreadable("too_large")
    for encoding in reversed(applied):
        body = _DECODERS[encoding](body)
    return body


def _zlib(body: bytes, bits: int) -> bytes:
    try:
        decoder = zlib.decompressobj(bits)
        out = decoder.decompress(body, LARGEST + 1)
        if len(out) > LARGEST:
            raise Unreadable("too_large")
    except zlib.error:
        raise Unreadable("encoding") from None
    if not decoder.eof or decoder.unused_data:
        raise Unreadable("encoding")
    return out


def _gzip(body: bytes) -> bytes:
    return _zlib(body, 16 + zlib.MAX_WBITS)


def _deflate(body: bytes) -> bytes:
    """With zlib's head as RFC 9110 says, or without, as others send it. Octets that can be read either way are read by nobody."""
    found: list[bytes] = []
    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            found.append(_zlib(body, bits))
        except Unreadable as problem:
            if problem.why != "encoding":
                raise
    if len(found) != 1:
        raise Unreadable("encoding")
    return found[0]


def _brotli(body: bytes) -> bytes:
    decoder, out = brotli.Decompressor(), bytearray()
    try:
        data = body
        while not decoder.is_finished():
            made = decoder.process(data, output_buffer_limit=_STEP)
            data = b""
            out += made
            if len(out) > LARGEST:
                raise Unreadable("too_large")
            if not made and decoder.can_accept_more_data():
                raise Unreadable("encoding")  # cut off
    except brotli.error:
        raise Unreadable("encoding") from None  # what follows the end is an error too
    return bytes(out)


def _zstd(body: bytes) -> bytes:
    try:
        decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 25})
        out = decoder.decompress(body, max_length=LARGEST + 1)
    except zstd.ZstdError:
        raise Unreadable("encoding") from None
    if len(out) > LARGEST:
        raise Unreadable("too_large")
    if not decoder.eof or decoder.unused_data:
        raise Unreadable("encoding")
    return bytes(out)


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
