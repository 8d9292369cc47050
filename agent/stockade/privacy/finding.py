"""What a detector finds in a text, and the closed list of categories that it may be called by.

A policy may add categories of its own below these families; detectors of ours use only the names listed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

CATEGORIES = {
    "phi.identifier": "who a patient is: name, birth date, record or health-plan number",
    "phi.clinical": "what a described patient has: diagnosis, finding, lab value, medication",
    "pii.person": "a private person's name",
    "pii.staff": "a name in its professional role: physician, nurse, a schedule",
    "pii.contact": "phone, e-mail, user name, personal page, IP address",
    "pii.location": "a street address, a postal code, a place",
    "pii.government": "social security, tax, passport, licence and provider numbers",
    "pii.date": "a date that belongs to a person or an event",
    "pii.age": "an age",
    "pii.demographic": "nationality, religion, politics, title and the like",
    "pii.organisation": "a company, an authority, an institution",
    "financial.card": "a payment card number",
    "financial.iban": "an international bank account number",
    "financial.account": "a bank account, routing or customer number",
    "financial.crypto": "the address of a wallet",
    "financial.amount": "an amount of a described transaction or account",
    "credential.key": "an API key",
    "credential.password": "a password or passphrase",
    "credential.token": "a bearer, session or access token",
    "credential.private_key": "a private key",
    "credential.url": "a URL with a user and a password in it",
    "credential.canary": "a marked secret of a sandbox, planted to be found",
    "ip.source_code": "source code",
    "ip.configuration": "the configuration of a system",
    "ip.document": "a registered confidential document, or a part of one",
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A span of a text. start, end: characters, end exclusive. score: 0 to 1; 1 is a validated pattern. detector: `name` or `name:rule`."""

    start: int
    end: int
    category: str
    detector: str
    score: float


class Detector(Protocol):
    """Finds spans. Pure: the same texts give the same findings. version changes whenever the findings may."""

    name: str
    version: str

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The findings of each text, in the order of the texts; sorted by start."""
