"""Layer a: values that have a form. A detector for people's data and one for credentials; both read every view of a text (see
privacy/views.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stockade.privacy.finding import Finding
from stockade.privacy.patterns import assigned, clinical, contact, dates, government, money, random, vendors
from stockade.privacy.patterns.canary import Canaries
from stockade.privacy.patterns.contact import Phones
from stockade.privacy.patterns.subject import Pattern, Subject
from stockade.privacy.version import of_code

PATTERNS: tuple[Pattern, ...] = (*money.PATTERNS, *government.PATTERNS, *contact.PATTERNS, *dates.PATTERNS, *clinical.PATTERNS)


class Patterns:
    """Cards, accounts, national numbers, contacts, addresses, dates, clinical codes and values."""

    name = "pattern"
    reads_views = True

    def __init__(self) -> None:
        self.version = of_code("patterns")
        self._phones = Phones()
        for pattern in PATTERNS:
            pattern.prepare()

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [sorted(self._all(Subject(text))) for text in texts]

    def _all(self, subject: Subject) -> Iterator[Finding]:
        for pattern in PATTERNS:
            yield from pattern.find(subject)
        yield from self._phones.find(subject)


class Credentials:
    """Keys, tokens, passwords and private keys: by a vendor's form, by the name beside them, by randomness; and canaries."""

    name = "credential"
    reads_views = True

    def __init__(self, canaries: Canaries | None = None) -> None:
        self._canaries = canaries or Canaries()
        self.version = f"{of_code('patterns')}+{self._canaries.version}"
        vendors.load()

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [sorted(self._all(Subject(text))) for text in texts]

    def _all(self, subject: Subject) -> Iterator[Finding]:
        yield from self._canaries.find(subject)
        yield from vendors.find(subject)
        yield from assigned.find(subject)
        yield from random.find(subject)
