"""What the certificates of an authority say of themselves, for people, records and metrics."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes


@dataclass(frozen=True, slots=True)
class About:
    """sha256: of the whole certificate, as openssl's -fingerprint has it, in small letters without colons. since, until: Unix time."""

    subject: str
    issuer: str
    serial: str
    sha256: str
    since: float
    until: float


def of(pem: bytes) -> About:
    """pem: one certificate. Raises ValueError."""
    found = x509.load_pem_x509_certificate(pem)
    return About(
        found.subject.rfc4514_string(),
        found.issuer.rfc4514_string(),
        f"{found.serial_number:x}",
        found.fingerprint(hashes.SHA256()).hex(),
        found.not_valid_before_utc.timestamp(),
        found.not_valid_after_utc.timestamp(),
    )


def moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
