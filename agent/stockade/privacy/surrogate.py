"""Values that keep the kind of what they stand for: a name for a name, a card number that passes its check for a card number.

All are made of what is reserved for examples, or invented: no mailbox, line or account of anybody. Digits drawn come from a keyed stream.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

_GIVEN = (
    "Alma",
    "Bruno",
    "Clara",
    "Dario",
    "Edith",
    "Falk",
    "Greta",
    "Henk",
    "Iris",
    "Jonas",
    "Kira",
    "Luan",
    "Mina",
    "Nils",
    "Orla",
    "Pavel",
)
_FAMILY = ("Abel", "Brandt", "Castor", "Dorn", "Eklund", "Ferro", "Grohl", "Hansel", "Ibsen", "Jarvi", "Kessel", "Lindt", "Moreau", "Novik")
_DATE = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")


class Draw:
    """Numbers that follow from a seed."""

    def __init__(self, seed: bytes) -> None:
        self._numbers = self._stream(seed)

    @staticmethod
    def _stream(seed: bytes) -> Iterator[int]:
        number = 0
        while True:
            yield from hashlib.sha256(seed + number.to_bytes(4)).digest()
            number += 1

    def below(self, most: int) -> int:
        return int.from_bytes(bytes(next(self._numbers) for _ in range(4))) % most


def surrogate(value: str, category: str, seed: bytes) -> str:
    """Another value of the same kind."""
    draw = Draw(seed)
    if category in ("pii.person", "pii.staff") or (category == "phi.identifier" and not any(map(str.isdigit, value))):
        return f"{_GIVEN[draw.below(len(_GIVEN))]} {_FAMILY[draw.below(len(_FAMILY))]}-{_FAMILY[draw.below(len(_FAMILY))]}"
    if "@" in value:
        return f"user{draw.below(10**8):08d}@example.com"
    if date := _DATE.fullmatch(value):
        return f"{max(1900, int(date[1]) - 1 - draw.below(3))}-{1 + draw.below(12):02d}-{1 + draw.below(28):02d}"
    if category == "financial.card":
        return _like(value, _luhn("999999" + "".join(str(draw.below(10)) for _ in range(9))))
    if category == "financial.iban":
        return _iban(value, draw)
    return _drawn(value, draw)


def _drawn(value: str, draw: Draw) -> str:
    """Every digit and letter another, everything else as it was."""
    made = []
    for character in value:
        if character.isdigit():
            made.append(str(draw.below(10)))
        elif character.isalpha():
            letter = chr(ord("a") + draw.below(26))
            made.append(letter.upper() if character.isupper() else letter)
        else:
            made.append(character)
    return "".join(made)


def _luhn(digits: str) -> str:
    """With the check digit of ISO/IEC 7812-1. 9 at the front is left to national use: no scheme issues it."""
    total = sum(sum(divmod(int(digit) * (2 if place % 2 == 0 else 1), 10)) for place, digit in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def _like(value: str, digits: str) -> str:
    """Digits, grouped as a value groups its own when there are as many."""
    if sum(map(str.isdigit, value)) != len(digits):
        return digits
    following = iter(digits)
    return "".join(next(following) if character.isdigit() else character for character in value)


def _iban(value: str, draw: Draw) -> str:
    """XX is no country: an account that cannot be. The check digits are those of ISO 7064."""
    size = max(11, min(30, sum(map(str.isalnum, value)) - 4))
    account = "".join(str(draw.below(10)) for _ in range(size))
    check = 98 - int(account + "333300") % 97  # X is 33
    return f"XX{check:02d}{account}"
