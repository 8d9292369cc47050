"""Canaries: secrets that are planted in a sandbox to be found when they leave it.

A canary has a mark and a checksum, so that every one is known without a list, here and on any other machine: `stk` + 32 characters, the
last eight of which are an HMAC-less check over the rest. A registry of hashes says which one it was; it never holds the canary.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping

from stockade.privacy.finding import Finding
from stockade.privacy.patterns.subject import Subject, compiled

PREFIX = "stkc"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_MARK = compiled(r"(?i)(stkc[a-z2-7]{32})")


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
    """known: digest → the name it was given. What has the mark and the check is a canary whether known or not."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._known = dict(known or {})

    def find(self, subject: Subject) -> Iterator[Finding]:
        if PREFIX.encode() not in subject.folded:
            return
        for start, end, _ in subject.matches(_MARK, 1):
            text = subject.data[start:end].decode()
            if valid(text):
                name = self._known.get(digest(text), "unregistered")
                yield subject.finding(start, end, "credential.canary", f"canary:{name}", 1.0)
