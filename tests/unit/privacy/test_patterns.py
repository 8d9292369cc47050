"""Layer a, as tables: values whose checksum holds, the same with one digit changed, words that must stand near, and harmless look-alikes.

The numbers are examples that their issuers publish, or were made to the published rule; none is anybody's.
"""

from __future__ import annotations

import pytest

from stockade.privacy.finding import CATEGORIES
from stockade.privacy.patterns import PATTERNS, Patterns, checks, wallets
from stockade.privacy.patterns.subject import Subject

PATTERN = Patterns()
BY_NAME = {pattern.name: pattern for pattern in PATTERNS}


def spans(name: str, text: str) -> list[str]:
    """What one detector takes from a text."""
    return [text[finding.start : finding.end] for finding in BY_NAME[name].find(Subject(text))]


def found(text: str) -> set[str]:
    return {finding.category for finding in PATTERN.find([text])[0]}


def changed(value: str) -> str:
    """The value with its last digit one higher."""
    place = max(place for place, character in enumerate(value) if character.isdigit())
    return value[:place] + str((int(value[place]) + 1) % 10) + value[place + 1 :]


# name of the detector, sentence with {} for the value, value with a right checksum
CHECKED = (
    ("card", "pay with {} today", "4111 1111 1111 1111"),
    ("card", "pay with {} today", "5555555555554444"),
    ("card", "pay with {} today", "2223003122003222"),
    ("card", "pay with {} today", "3782-822463-10005"),
    ("card", "pay with {} today", "6011111111111117"),
    ("card", "pay with {} today", "3530111333300000"),
    ("card", "pay with {} today", "30569309025904"),
    ("card", "pay with {} today", "6200000000000005"),
    ("iban", "send it to {} please", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "send it to {} please", "DE89370400440532013000"),
    ("iban", "send it to {} please", "FR14 2004 1010 0505 0001 3M02 606"),
    ("iban", "send it to {} please", "NO9386011117947"),
    ("iban", "send it to {} please", "MT84MALT011000012345MTLCAST001S"),
    ("routing", "routing number {}", "021000021"),
    ("routing", "ABA {}", "011000015"),
    ("us-npi", "NPI {}", "1234567893"),
    ("us-dea", "DEA {}", "AB1234563"),
    ("uk-nhs", "NHS number {}", "943 476 5919"),
    ("ca-sin", "SIN {}", "130 692 544"),
    ("de-steuer-id", "Steuer-ID {}", "36 574 261 809"),
    ("fr-nir", "son numéro {} est", "2 55 08 14 168 025 38"),
    ("es-dni", "con {} en", "12345678Z"),
    ("es-dni", "con {} en", "X1234567L"),
    ("it-codice-fiscale", "intestato a {} a Roma", "RSSMRA85T10A562S"),
    ("in-aadhaar", "Aadhaar {}", "2345 6789 0124"),
    ("nl-bsn", "BSN {}", "111222333"),
    ("br-cpf", "o número {} dele", "390.533.447-05"),
    ("br-cpf-plain", "CPF {}", "39053344705"),
    ("br-cnpj", "empresa {} no", "16.727.230/0001-97"),
    ("au-tfn", "TFN {}", "123 456 782"),
    ("pl-pesel", "PESEL {}", "44051401359"),
    ("se-personnummer", "personnummer {}", "811228-9874"),
    ("no-fodselsnummer", "hans {} er", "15108695088"),
    ("fi-hetu", "hänen {} on", "131052-308T"),
    ("be-national", "rijksregisternummer {}", "85.07.30-033.28"),
    ("ch-ahv", "die Nummer {} gehört", "756.9217.0769.85"),
    ("ie-pps", "PPS {}", "1234567T"),
    ("cn-resident", "the number {} of", "11010519491231002X"),
    ("jp-my-number", "My Number {}", "1234 5678 9018"),
    ("sg-nric", "holder {} of", "S1234567D"),
    ("za-id", "South African id number {}", "8001015009087"),
    ("vin", "the vehicle {} was", "1M8GDM9AXKP042788"),
)


@pytest.mark.parametrize(("name", "sentence", "value"), CHECKED)
def test_a_value_is_found_and_the_same_with_a_wrong_checksum_is_not(name: str, sentence: str, value: str) -> None:
    assert spans(name, sentence.format(value)) == [value]
    assert spans(name, sentence.format(changed(value))) == []


# Those with a weak form are found only beside their word.
@pytest.mark.parametrize(("name", "sentence", "value"), [row for row in CHECKED if BY_NAME[row[0]].required])
def test_a_weak_form_needs_its_word(name: str, sentence: str, value: str) -> None:
    assert spans(name, f"batch {value} was shipped") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bitcoin", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        ("bitcoin", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"),
        ("bitcoin", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        ("bitcoin", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"),
        ("ethereum", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
        ("ethereum", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"),
    ],
)
def test_a_wallet_has_its_checksum_in_it(name: str, value: str) -> None:
    assert spans(name, f"send it to {value} now") == [value]
    place = next(place for place in range(len(value) - 1, 0, -1) if value[place].isalpha())
    other = value[place].swapcase() if name == "ethereum" else ("q" if value[place] != "q" else "p")
    assert spans(name, f"send it to {value[:place]}{other}{value[place + 1 :]} now") == []


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (checks.medicare_au, "2123 45670 1", "2123 45671 1"),  # the check digit is the ninth, what follows is an issue number
        (checks.steuer_id, "36574261809", "84058990770"),  # the check digit of the second holds, but 0, 8 and 9 occur more than once
        (checks.fodselsnummer, "15108695088", "17004956729"),  # no month 00
        (checks.hetu, "131052-308T", "150024-4424"),  # nor here
        (checks.itin, "912-70-1234", "912-93-1234"),  # group 93 is none
        (checks.luhn, "79927398713", "79927398710"),
        (checks.verhoeff, "2363", "2364"),
        (checks.pesel, "44051401359", "44131401359"),
        (wallets.bech32, "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxq"),
    ],
)
def test_checks_by_hand(check: checks.Check, right: str, wrong: str) -> None:
    assert check(right)
    assert not check(wrong)


def test_keccak_is_the_one_before_sha3() -> None:
    assert wallets.keccak_256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert wallets.keccak_256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"


@pytest.mark.parametrize(
    ("number", "right"),
    [("123-45-6789", True), ("000-12-3456", False), ("666-12-3456", False), ("900-12-3456", False), ("123-00-4567", False),
     ("123-45-0000", False), ("078-05-1120", False), ("219-09-9999", False)],
)  # fmt: skip
def test_social_security_numbers_that_were_never_issued_are_none(number: str, right: bool) -> None:
    assert checks.ssn(number) is right


def test_a_number_that_was_never_issued_counts_where_it_is_called_one() -> None:
    assert spans("us-ssn-context", "her SSN is 666-12-3456") == ["666-12-3456"]
    assert spans("us-ssn-context", "part 666-12-3456 is sold out") == []


# One row for each detector that has no checksum: what it takes.
TAKEN = (
    ("card-short", "the Visa card ending in 4242", "4242"),
    ("card-check", "CVV: 123", "123"),
    ("card-typed", "card number: 1234 5678 9012 3456", "1234 5678 9012 3456"),
    ("iban-typed", "IBAN: DE00370400440532013000", "DE00370400440532013000"),
    ("account", "account number: 123456789", "123456789"),
    ("account-lettered", "policy number: HX-48213377", "HX-48213377"),
    ("sort-code", "sort code 20-00-00", "20-00-00"),
    ("bic", "BIC: DEUTDEFF500", "DEUTDEFF500"),
    ("amount", "her salary is $85,000", "$85,000"),
    ("us-ssn-short", "SSN ending in 6789", "6789"),
    ("us-itin", "number 912-70-1234", "912-70-1234"),
    ("us-ein", "EIN 12-3456789", "12-3456789"),
    ("us-npi-typed", "NPI: 1234567890", "1234567890"),
    ("us-medicare", "Medicare 1EG4-TE5-MK73", "1EG4-TE5-MK73"),
    ("uk-nino", "NI number AB 12 34 56 C", "AB 12 34 56 C"),
    ("in-pan", "PAN ABCPE1234F", "ABCPE1234F"),
    ("mx-curp", "CURP HEGG560427MVZRRL04", "HEGG560427MVZRRL04"),
    ("eu-vat", "VAT number: DE 123456789", "DE 123456789"),
    ("passport", "passport number: X12345678", "X12345678"),
    ("driver-licence", "driver's license number D1234567", "D1234567"),
    ("plate", "license plate: 7ABC123", "7ABC123"),
    ("email", "write to jane.doe@clinic.test today", "jane.doe@clinic.test"),
    ("ipv4", "from 203.0.113.77 at night", "203.0.113.77"),
    ("ipv6", "from 2001:db8:85a3::8a2e:370:7334 at night", "2001:db8:85a3::8a2e:370:7334"),
    ("mac", "the device 00:1B:44:11:3A:B7 is", "00:1B:44:11:3A:B7"),
    ("uk-postcode", "London SW1A 1AA", "SW1A 1AA"),
    ("ca-postcode", "Ottawa K1A 0B1", "K1A 0B1"),
    ("po-box", "P.O. Box 1234", "P.O. Box 1234"),
    ("date", "on 2024-03-15 she", "2024-03-15"),
    ("birth-date", "DOB: 03/15/1962", "03/15/1962"),
    ("age", "a 58-year-old man", "58-year-old"),
    ("mrn", "MRN: 00482913", "00482913"),
    ("health-plan", "Member ID: XYZ123456789", "XYZ123456789"),
    ("icd", "coded E11.9 today", "E11.9"),
    ("blood-pressure", "BP 142/91 mmHg", "BP 142/91 mmHg"),
    ("medication", "metformin 500 mg BID", "metformin 500 mg BID"),
)


@pytest.mark.parametrize(("name", "text", "value"), TAKEN)
def test_a_value_of_a_form_is_taken_whole(name: str, text: str, value: str) -> None:
    assert spans(name, text) == [value]


# What looks like a value and is none: identifiers of software, versions, times, arithmetic.
HARMLESS = (
    "550e8400-e29b-41d4-a716-446655440000",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "upgrade to 10.4.2-rc1 of the library",
    "order A-1029384756 has left the warehouse",
    "listen 127.0.0.1:8080",
    "bind to 0.0.0.0 or ::1",
    "for i in range(1000000000): total += i",
    "x = 3.14159265358979",
    "timeout=1700000000",
    "#define MAX_SIZE 4294967295",
    "0xdeadbeef 0xcafebabe",
    "1111 1111 1111 1111",
    "0000000000000000",
    "ISBN 978-3-16-148410-0",
    "the ratio is 16:9 and the score 3-2",
    "std::vector<int>::iterator",
    "a@b",
    "@property",
    "see section 4.2.1 of the manual",
    "HTTP/1.1 200 OK",
    "RFC 7231 says so",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_value_is_left_alone(text: str) -> None:
    assert found(text) == set()


def test_a_card_followed_by_its_date_is_the_card_alone() -> None:
    assert spans("card", "4111 1111 1111 1111 12/27") == ["4111 1111 1111 1111"]
    assert spans("card", "4111111111111111 1227") == ["4111111111111111"]


def test_an_iban_ends_where_its_country_says() -> None:
    assert spans("iban", "DE89 3704 0044 0532 0130 00 and more") == ["DE89 3704 0044 0532 0130 00"]


def test_phone_numbers() -> None:
    for text, value in (
        ("call +1 415-555-2671 now", "+1 415-555-2671"),
        ("call (415) 555-2671 now", "(415) 555-2671"),
        ("Tel.: +49 30 901820", "+49 30 901820"),
        ("mobile +44 7911 123456", "+44 7911 123456"),
    ):
        contact = [text[f.start : f.end] for f in PATTERN.find([text])[0] if f.category == "pii.contact"]
        assert contact == [value]


def test_offsets_are_characters_whatever_stands_before() -> None:
    text = "Größe — 日本 😀 jane.doe@clinic.test"
    assert spans("email", text) == ["jane.doe@clinic.test"]


def test_every_detector_has_a_name_of_its_own_a_known_category_and_words_of_what_it_finds() -> None:
    assert len(BY_NAME) == len(PATTERNS)
    for pattern in PATTERNS:
        assert pattern.category in CATEGORIES
        assert pattern.says
