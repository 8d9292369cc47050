"""Secrets known by nothing but their randomness. Checksums, ids, paths and packed data are random as well, so much is left out here on
purpose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stockade.privacy.finding import Finding
from stockade.privacy.patterns.subject import Subject, compiled
from stockade.privacy.patterns.vendors import entropy

_TOKEN = compiled(r"([A-Za-z0-9+/_\-]{20,200}={0,2})")
_LONE = compiled(r"^\s{0,4}([0-9a-f]{32}|[0-9a-f]{64}|[A-Za-z0-9+/_\-]{24,128}={0,2})\s{0,4}$")
_AWS = compiled(r"\b((?:AKIA|ASIA)[A-Z2-7]{16})\b")
_AWS_SECRET = compiled(r"(?:^|[^A-Za-z0-9/+=])([A-Za-z0-9/+]{40})(?:$|[^A-Za-z0-9/+=])")
_PUBLIC = re.compile(
    r"(?i)(?:sha(?:1|256|384|512)|md5|integrity|checksum|digest|hash|commit|etag|sri|resolved|public|fingerprint|ssh-(?:rsa|ed25519|dss)|"
    r"ecdsa|certificate|uuid|guid|nonce|base64,|data:|boundary|track|trace|span|revision|rev|signature|build|cache|image|href|src|url)"
)
_PLAIN = re.compile(r"^[A-Za-z]+$|^[0-9_\-/+]+$|^[A-Za-z0-9]+(?:[-_/][A-Za-z]{3,}[0-9]{0,3}){2,}$|[A-Za-z]{12,}")


def find(subject: Subject) -> Iterator[Finding]:
    data = subject.data
    if not subject.has_digit:
        return
    yield from _aws(subject)
    for start, end, _ in subject.matches(_LONE, 1):
        alone = data[start:end]
        if entropy(alone) >= (3.2 if len(alone) in (32, 64) else 4.2) and _mixed(alone.decode()):
            yield subject.finding(start, end, "credential.key", "random:alone", 0.6)
    for start, end, _ in subject.matches(_TOKEN, 1):
        value = data[start:end].decode()
        if (
            not _mixed(value)
            or not (any(c.isupper() for c in value) and any(c.islower() for c in value))
            or _PLAIN.search(value)
            or ("_" in value and _names(value))
        ):
            continue
        if (
            ("/" in value and value.count("/") > 2 and "+" not in value)
            or data[start - 1 : start] in (b"/", b".", b"#", b"%", b"@", b"\\")
            or data[end : end + 1] in (b"/", b".", b"(")
        ):
            continue
        if entropy(value.encode()) < 4.3 or sum(c.isdigit() for c in value) < 3 or _in_block(data, start, end):
            continue
        line = data[max(0, data.rfind(b"\n", 0, start) + 1, start - 80) : start].decode(errors="replace")
        if not _PUBLIC.search(line):
            yield subject.finding(start, end, "credential.key", "random:token", 0.55)


def _aws(subject: Subject) -> Iterator[Finding]:
    """An access key id says that the forty characters near it are the secret."""
    data = subject.data
    for start, end, _ in subject.matches(_AWS, 1):
        yield subject.finding(start, end, "credential.key", "random:aws-id", 0.95)
        base = end
        part = data[base : base + 200]
        match = _AWS_SECRET.search(part)
        if match and _mixed(part[slice(*match.span(1))].decode()):
            first, last = match.span(1)
            yield subject.finding(base + first, base + last, "credential.key", "random:aws-secret", 0.95)


def _mixed(value: str) -> bool:
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value)


def _names(value: str) -> bool:
    """Words joined as names in programs are: X509_STORE_CTX_lookup_certs_fn."""
    parts: list[str] = re.split(r"[_\-]", value)
    return sum(len(part) > 2 and part.isalpha() and (part.islower() or part.isupper() or part.istitle()) for part in parts) > 1


def _in_block(data: bytes, start: int, end: int) -> bool:
    """Line after line of base64: a certificate, an image, an archive."""
    return end - start >= 56 and (data[end : end + 1] in (b"\n", b"\r")) and data[start - 1 : start] in (b"\n", b"", b" ")
