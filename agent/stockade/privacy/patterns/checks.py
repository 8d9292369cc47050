"""Checksums of the numbers that people and accounts go by. Each takes the number as written, separators and all, and says whether it can
be one.

Sources: ISO/IEC 7812 (Luhn), ISO 13616 (IBAN registry), ISO 7064, the issuing authority's own rule for each national number.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Sequence

Check = Callable[[str], bool]


def digits(text: str) -> str:
    return "".join(character for character in text if character in "0123456789")


def alphanumeric(text: str) -> str:
    return "".join(character for character in text if character.isascii() and character.isalnum()).upper()


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right counts twice."""
    total = 0
    for place, character in enumerate(reversed(digits(text))):
        value = int(character) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


# Issuer ranges: (first, last) of the leading digits, and the lengths that are issued.
_ISSUERS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    ("644", "649", (16, 17, 18, 19)),
    ("65", "65", (16, 17, 18, 19)),
    ("622126", "622925", (16, 17, 18, 19)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("81", "81", (16, 17, 18, 19)),
    ("300", "305", (14, 16)),  # Diners Club
    ("3095", "3095", (14, 16)),
    ("36", "36", (14, 15, 16)),
    ("38", "39", (14, 16)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("60", "60", (16,)),  # RuPay
    ("508", "508", (16,)),
    ("50", "50", (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("56", "58", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6", "6", (16, 18, 19)),
)


def card(text: str) -> bool:
    number = digits(text)
    if len(set(number)) < 2 or not luhn(number):
        return False
    return any(first <= number[: len(first)] <= last and len(number) in lengths for first, last, lengths in _ISSUERS)


_IBANS = (
    "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DJ:27 DK:18 "
    "DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HN:28 HR:21 HU:28 IE:22 IL:23 "
    "IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 "
    "MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 "
    "SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30"
)
IBAN_LENGTHS = dict(entry.split(":") for entry in _IBANS.split())


def _remainder_97(text: str) -> int:
    return int("".join(str(int(character, 36)) for character in text)) % 97


def iban(text: str) -> bool:
    number = alphanumeric(text)
    return str(len(number)) == IBAN_LENGTHS.get(number[:2]) and number[2:4].isdigit() and _remainder_97(number[4:] + number[:4]) == 1


def _prefix(text: str, count: int) -> int:
    """The length of the prefix that has so many letters and digits."""
    for place, character in enumerate(text):
        count -= character.isalnum()
        if not count:
            return place + 1
    return 0


def card_within(text: str) -> int:
    """A card at the beginning of a row of digits, which may go on with a date or a code behind a separator: its length, or 0."""
    for count in range(19, 11, -1):
        size = _prefix(text, count)
        if size and not text[size : size + 1].isdigit() and card(text[:size]):
            return size
    return 0


def iban_within(text: str) -> int:
    """An IBAN at the beginning of what may go on with words: its length, or 0."""
    size = _prefix(text, int(IBAN_LENGTHS.get(text[:2].upper(), 0)))
    return size if size and not text[size : size + 1].isalnum() and iban(text[:size]) else 0


def ssn(text: str) -> bool:
    """Areas 000, 666 and 900–999, group 00 and serial 0000 were never issued; three numbers are known from advertisements."""
    number = digits(text)
    if len(number) != 9 or number[:3] in ("000", "666") or number[0] == "9" or number[3:5] == "00" or number[5:] == "0000":
        return False
    return len(set(number)) > 1 and number not in ("078051120", "219099999")


def itin(text: str) -> bool:
    number = digits(text)
    group = int(number[3:5]) if len(number) == 9 else 0
    return number[:1] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


_EINS = (
    "01 02 03 04 05 06 10 11 12 13 14 15 16 20 21 22 23 24 25 26 27 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 "
    "48 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 71 72 73 74 75 76 77 80 81 82 83 84 85 86 87 88 90 91 92 "
    "93 94 95 98 99"
)
_EIN_PREFIXES = frozenset(_EINS.split())


def ein(text: str) -> bool:
    return digits(text)[:2] in _EIN_PREFIXES


def npi(text: str) -> bool:
    """45 CFR 162.406: Luhn over 80840 and the ten digits."""
    number = digits(text)
    return len(number) == 10 and number[0] in "12" and luhn("80840" + number)


def dea(text: str) -> bool:
    """The registration number of a prescriber: two letters, six digits, a check digit."""
    number = digits(text)
    if len(number) != 7:
        return False
    odd = int(number[0]) + int(number[2]) + int(number[4])
    even = int(number[1]) + int(number[3]) + int(number[5])
    return (odd + 2 * even) % 10 == int(number[6])


def aba(text: str) -> bool:
    """USA: a bank's routing number, nine digits that begin with a district, weighted 3, 7, 1."""
    number = digits(text)
    if len(number) != 9 or not (
        0 < int(number[:2]) <= 12 or 21 <= int(number[:2]) <= 32 or 61 <= int(number[:2]) <= 72 or number[:2] == "80"
    ):
        return False
    return _weighted(number, (3, 7, 1, 3, 7, 1, 3, 7, 1)) % 10 == 0


def _weighted(number: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False))


def nhs(text: str) -> bool:
    """England: ten digits, the last of them a check by 11."""
    number = digits(text)
    if len(number) != 10 or len(set(number)) == 1:
        return False
    check = 11 - _weighted(number, range(10, 1, -1)) % 11
    return check % 11 == int(number[9]) and check != 10


def sin(text: str) -> bool:
    number = digits(text)
    return len(number) == 9 and number[0] not in "08" and luhn(number)


def steuer_id(text: str) -> bool:
    """Germany: ISO 7064 mod 11,10; of the first ten digits exactly one occurs more than once: two or three times."""
    number = digits(text)
    if len(number) != 11 or number[0] == "0":
        return False
    if [count for count in Counter(number[:10]).values() if count > 1] not in ([2], [3]):
        return False
    return _mod_11_10(number[:10]) == int(number[10])


def _mod_11_10(number: str) -> int:
    product = 10
    for digit in number:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10


def nir(text: str) -> bool:
    """France: 13 characters (2A and 2B for Corsica) and 97 minus their remainder."""
    number = alphanumeric(text)
    if len(number) != 15 or number[0] not in "123478":
        return False
    body = (
        number[:13].replace("2A", "19", 1)
        if number[5:7] == "2A"
        else number[:13].replace("2B", "18", 1)
        if number[5:7] == "2B"
        else number[:13]
    )
    return body.isdigit() and number[13:].isdigit() and 97 - int(body) % 97 == int(number[13:])


def dni(text: str) -> bool:
    """Spain: DNI, and NIE with X, Y or Z for 0, 1, 2."""
    number = alphanumeric(text)
    body = {"X": "0", "Y": "1", "Z": "2"}.get(number[:1], number[:1]) + number[1:-1]
    return len(number) == 9 and body.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(body) % 23] == number[-1]


_CF_VALUES = "1 0 5 7 9 13 15 17 19 21 1 0 5 7 9 13 15 17 19 21 2 4 18 20 11 3 6 8 12 14 16 10 22 25 24 23"
_CF_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        map(int, _CF_VALUES.split()),
        strict=True,
    )
)


def codice_fiscale(text: str) -> bool:
    """Of an Italian tax code: 16 characters, of which the last is the check character (D.M. 23/12/1976)."""
    number = alphanumeric(text)
    if len(number) != 16 or not number[15].isalpha():
        return False
    total = 0
    for place, character in enumerate(number[:15]):
        total += _CF_ODD[character] if place % 2 == 0 else int(character) if character.isdigit() else ord(character) - 65
    return total % 26 == ord(number[15]) - 65


_D5 = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_P8 = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258")


def verhoeff(text: str) -> bool:
    check = 0
    for place, digit in enumerate(reversed(digits(text))):
        check = int(_D5[check][int(_P8[place % 8][int(digit)])])
    return check == 0


def aadhaar(text: str) -> bool:
    number = digits(text)
    return len(number) == 12 and number[0] not in "01" and number != number[::-1] and verhoeff(number)


def bsn(text: str) -> bool:
    number = digits(text).zfill(9)
    return len(number) == 9 and int(number) > 0 and _weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _mod_11_check(number: str, weights: Sequence[int]) -> int:
    remainder = _weighted(number, weights) % 11
    return 0 if remainder < 2 else 11 - remainder


def cpf(text: str) -> bool:
    """Brazil, of persons: eleven digits, the last two of them checks by 11."""
    number = digits(text)
    if len(number) != 11 or len(set(number)) == 1:
        return False
    first, second = _mod_11_check(number, range(10, 1, -1)), _mod_11_check(number, range(11, 1, -1))
    return number[9:] == f"{first}{second}"


def cnpj(text: str) -> bool:
    """Brazil, of companies: fourteen digits, the last two of them checks by 11."""
    number = digits(text)
    if len(number) != 14 or len(set(number)) == 1:
        return False
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return number[12:] == f"{_mod_11_check(number, weights[1:])}{_mod_11_check(number, weights)}"


def tfn(text: str) -> bool:
    number = digits(text)
    if len(number) == 8:
        return _weighted(number, (10, 7, 8, 4, 6, 3, 5, 1)) % 11 == 0
    return len(number) == 9 and len(set(number)) > 1 and _weighted(number, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def medicare_au(text: str) -> bool:
    number = digits(text)
    return len(number) in (10, 11) and number[0] in "23456" and _weighted(number, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(number[8])


def pesel(text: str) -> bool:
    number = digits(text)
    if len(number) != 11 or int(number[2:4]) % 20 not in range(1, 13) or int(number[4:6]) not in range(1, 32):
        return False
    return (10 - _weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == int(number[10])


def personnummer(text: str) -> bool:
    """Sweden: Luhn over the last ten digits; the day is 60 higher in a coordination number."""
    number = digits(text)[-10:]
    return len(number) == 10 and int(number[2:4]) in range(1, 13) and int(number[4:6]) % 60 in range(1, 32) and luhn(number)


def fodselsnummer(text: str) -> bool:
    """Norway: day and month of birth (40 higher in some kinds), and two check digits by 11."""
    number = digits(text)
    if len(number) != 11 or int(number[:2]) % 40 not in range(1, 32) or int(number[2:4]) % 40 not in range(1, 13):
        return False
    first = -_weighted(number, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = -_weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return number[9:] == f"{first}{second}"


def hetu(text: str) -> bool:
    """Finland: the day of birth and three digits, by 31."""
    number = alphanumeric(text)
    body = digits(text[:6]) + digits(text[7:10])
    if len(body) != 9 or int(body[:2]) not in range(1, 32) or int(body[2:4]) not in range(1, 13):
        return False
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(body) % 31] == number[-1]


def belgian_national(text: str) -> bool:
    number = digits(text)
    if len(number) != 11:
        return False
    return int(number[9:]) in (97 - int(number[:9]) % 97, 97 - int("2" + number[:9]) % 97)


def ahv(text: str) -> bool:
    """Switzerland: an EAN-13 that begins with 756."""
    number = digits(text)
    return len(number) == 13 and number[:3] == "756" and _weighted(number, (1, 3) * 6 + (1,)) % 10 == 0


def pps(text: str) -> bool:
    """Ireland: seven digits, a check letter, and in newer ones a letter that counts nine times."""
    number = alphanumeric(text)
    if len(number) not in (8, 9) or not number[:7].isdigit():
        return False
    total = _weighted(number[:7], range(8, 1, -1)) + (9 * (ord(number[8]) - 64) if len(number) == 9 and number[8] != "W" else 0)
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == number[7]


def rrn(text: str) -> bool:
    """South Korea. Numbers given out since October 2020 have no check digit any more: the date is what is left to test."""
    number = digits(text)
    return len(number) == 13 and int(number[2:4]) in range(1, 13) and int(number[4:6]) in range(1, 32) and number[6] in "123456789"


def resident_id_cn(text: str) -> bool:
    number = alphanumeric(text)
    if len(number) != 18 or not number[:17].isdigit() or int(number[10:12]) not in range(1, 13) or int(number[12:14]) not in range(1, 32):
        return False
    return "10X98765432"[_weighted(number, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11] == number[17]


def my_number(text: str) -> bool:
    """Japan: twelve digits, the last of them a check by 11."""
    number = digits(text)
    if len(number) != 12:
        return False
    remainder = _weighted(number, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return int(number[11]) == (0 if remainder <= 1 else 11 - remainder)


def nric(text: str) -> bool:
    """Singapore, letters S, T, F and G (M has its own table)."""
    number = alphanumeric(text)
    if len(number) != 9 or number[0] not in "STFGM" or not number[1:8].isdigit():
        return False
    total = _weighted(number[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(number[0], 0)
    table = "JZIHGFEDCBA" if number[0] in "ST" else "XWUTRQPNMLK" if number[0] in "FG" else "XWUTRQPNJLK"
    return table[10 - total % 11 if number[0] == "M" else total % 11] == number[8]


def rsa_id(text: str) -> bool:
    number = digits(text)
    return (
        len(number) == 13 and int(number[2:4]) in range(1, 13) and int(number[4:6]) in range(1, 32) and number[10] in "01" and luhn(number)
    )


def vin(text: str) -> bool:
    """ISO 3779 with the North American check digit."""
    number = text.upper()
    values = {character: int(value) for character, value in zip("ABCDEFGHJKLMNPRSTUVWXYZ", "12345678123457923456789", strict=True)}
    if len(number) != 17 or not any(character.isdigit() for character in number[-5:]):
        return False
    try:
        total = sum(
            (int(c) if c.isdigit() else values[c]) * w
            for c, w in zip(number, (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2), strict=True)
        )
    except KeyError:
        return False
    return "0123456789X"[total % 11] == number[8]


def base64_text(text: str) -> str | None:
    """What a base64 string (either alphabet, padding or not) says when it is printable text; else None."""
    body = text.rstrip("=")
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_" if "-" in body or "_" in body else None, validate=True)
        decoded = data.decode()
    except (binascii.Error, ValueError):
        return None
    return decoded if decoded and all(c.isprintable() or c in "\t\r\n" for c in decoded) else None
