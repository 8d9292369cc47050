"""Canaries: secrets that are planted in a sandbox to be found when they leave it.

A canary has a mark and a checksum, so that every one is known without a list, here and on any other machine: `stk` + 32 characters, the
last eight of which are an HMAC-less check over the rest. A registry of hashes says which one it was; it never holds the canary.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping

from stockade.privacy import deadline
from stockade.privacy.finding import Finding
from stockade.privacy.patterns.subject import Subject, compiled

PREFIX = "stkc"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
LENGTH = len(PREFIX) + 32


def make() -> str:
    """A new canary of 160 random bits less its check: 24 random characters, 8 of check."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(24))
    return body + _check(body)


def _check(body: str) -> str:
    digest = hashlib.sha256(b"stockade canary\0" + body.encode()).digest()
    return "".join(_ALPHABET[byte & 31] for byte in digest[:8])


def valid(text: str) -> bool:
    text = text.lower()
    return len(text) == 36 and _check(text[:28]) == text[28:]


def digest(canary: str) -> str:
    return hashlib.sha256(b"stockade canary id\0" + canary.lower().encode()).hexdigest()


class Canaries:
    """known: digest → the name it was given. What has the mark and the check is a canary whether known or not.

    Its letters may have anything between them that is none of its alphabet (quotes, commas, line ends, dashes, the NULs of UTF-16), and
    stand backwards, and all that in base64, base32 or hexadecimal within octets that are no text. The check of 40 bits keeps that exact.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._known = dict(known or {})
        self.version = hashlib.sha256(repr(sorted(self._known.items())).encode()).hexdigest()[:8]

    def find(self, subject: Subject) -> Iterator[Finding]:
        for start, end, text in _spelt(subject.folded):
            yield self._finding(subject, start, end, text)
        for start, end, text in _packed(subject):
            yield self._finding(subject, start, end, text)

    def _finding(self, subject: Subject, start: int, end: int, text: str) -> Finding:
        return subject.finding(start, end, "credential.canary", f"canary:{self._known.get(digest(text), 'unregistered')}", 1.0)


def _spelt(folded: bytes) -> Iterator[tuple[int, int, str]]:
    """Each canary with its span, of a text in lower case."""
    letters = folded.translate(None, _BETWEEN)
    if PREFIX.encode() not in letters and PREFIX[::-1].encode() not in letters:
        return
    for backwards in (False, True):
        written = letters[::-1] if backwards else letters
        at = written.find(PREFIX.encode())
        while at >= 0:
            deadline.keep()
            text = written[at : at + LENGTH].decode()
            if valid(text):
                first, last = (len(letters) - at - LENGTH, len(letters) - at - 1) if backwards else (at, at + LENGTH - 1)
                yield (*_places(folded, first, last), text)
            at = written.find(PREFIX.encode(), at + 1)


def _places(folded: bytes, first: int, last: int) -> tuple[int, int]:
    """Where two of its letters stand in a text."""
    places = [place for place, byte in enumerate(folded) if byte not in _DROPPED]
    return places[first], places[last] + 1


def _packed(subject: Subject) -> Iterator[tuple[int, int, str]]:
    """The same of what is packed in a text, in any of the ways in which a run of it can be read: it may begin within one."""
    for begin, stop, _ in subject.matches(_RUN):
        for regex, (characters, octets), padding, decode in _PACKINGS:
            for match in regex.finditer(subject.data, begin, stop):
                for skipped in range(characters):
                    body = match.group()[skipped:]
                    try:
                        data = decode(body + padding * (-len(body) % characters))
                    except ValueError:  # binascii.Error is one
                        continue
                    for first, last, text in _spelt(data.lower()):
                        at = match.start() + skipped
                        yield at + first * characters // octets, min(at - (-last * characters // octets), match.end()), text


def _base64(run: bytes) -> bytes:
    return base64.b64decode(run, altchars=b"-_" if b"-" in run or b"_" in run else None, validate=True)


def _base32(run: bytes) -> bytes:
    return base64.b32decode(run, casefold=True)


_DROPPED = frozenset(range(256)) - frozenset(_ALPHABET.encode())
_BETWEEN = bytes(sorted(_DROPPED))
# Runs that hold a canary whole, less what is lost at either end.
_RUN = compiled(r"[A-Za-z0-9+/_\-]{44,}")
_PACKINGS: tuple[tuple[re.Pattern[bytes], tuple[int, int], bytes, Callable[[bytes], bytes]], ...] = (
    (re.compile(rb"[A-Za-z0-9+/_\-]{44,}"), (4, 3), b"=", _base64),
    (re.compile(rb"[A-Z2-7]{52,}|[a-z2-7]{52,}"), (8, 5), b"=", _base32),
    (re.compile(rb"[0-9a-fA-F]{72,}"), (2, 1), b"0", binascii.unhexlify),
)
