"""A canary is found however it is spelt, and nothing else is one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from stockade.privacy.classify import Classifier
from stockade.privacy.finding import Finding
from stockade.privacy.patterns import Credentials
from stockade.privacy.patterns.canary import Canaries, digest, make

MARKED = make()
ENVIRONMENT = f"PATH=/usr/bin\nDEPLOY_TOKEN={MARKED}\nHOME=/root\n"
NOISE = bytes(range(128, 159))
WAYS: dict[str, Callable[[], str]] = {
    "plain": lambda: MARKED,
    "upper case": MARKED.upper,
    "backwards": lambda: MARKED[::-1],
    "dashes": lambda: "-".join(MARKED),
    "over lines": lambda: "\n".join(MARKED[at : at + 5] for at in range(0, len(MARKED), 5)),
    "over elements of a list": lambda: json.dumps([MARKED[:10], MARKED[10:]]),
    "utf-16 read as latin-1": lambda: MARKED.encode("utf-16-le").decode("latin-1"),
    "percent": lambda: "".join(f"%{ord(one):02x}" for one in MARKED),
    "json escapes": lambda: "".join(f"\\u{ord(one):04x}" for one in MARKED),
    "html": lambda: "".join(f"&#{ord(one)};" for one in MARKED),
    "base64": lambda: base64.b64encode(MARKED.encode()).decode(),
    "base64 of a file": lambda: base64.b64encode(ENVIRONMENT.encode()).decode(),
    "base64 within octets": lambda: base64.b64encode(NOISE + MARKED.encode() + NOISE).decode(),
    "base64 for urls": lambda: base64.urlsafe_b64encode(NOISE + MARKED.encode() + NOISE).decode(),
    "base64 in lines": lambda: base64.encodebytes(ENVIRONMENT.encode() * 3).decode(),
    "base64 of utf-16": lambda: base64.b64encode(MARKED.encode("utf-16")).decode(),
    "base64 of base64": lambda: base64.b64encode(base64.b64encode(MARKED.encode())).decode(),
    "base32": lambda: base64.b32encode(ENVIRONMENT.encode()).decode(),
    "hexadecimal": lambda: (NOISE + MARKED.encode()).hex(),
    "hexadecimal, spaced": lambda: MARKED.encode().hex(" "),
}


def found(text: str, known: Canaries | None = None) -> list[Finding]:
    return [each for each in Classifier([Credentials(known)]).classify([text])[0] if each.category == "credential.canary"]


@pytest.mark.parametrize("way", WAYS)
def test_a_canary_is_found_in_every_spelling(way: str) -> None:
    text = WAYS[way]()
    (finding,) = found(f"key: {text} and so on", Canaries({digest(MARKED): "billing"}))
    assert finding.detector == "canary:billing"
    assert 5 <= finding.start < finding.end <= 5 + len(text)
    assert finding.end - finding.start >= 34


def test_one_letter_more_or_less_or_other_is_none() -> None:
    other = MARKED[:-1] + ("a" if MARKED[-1] != "a" else "b")
    assert not found(other)
    assert not found(MARKED[:-1])
    assert not found(base64.b64encode(other.encode()).decode())
    assert len(found(f"x{MARKED}x{make()}")) == 2


def test_split_over_messages_it_is_found_in_both() -> None:
    texts = [f"first {MARKED[:17]}", f"{MARKED[17:]} second"]
    both = Classifier([Credentials()]).classify(texts, conversation=True)
    assert [[each.category for each in findings] for findings in both] == [["credential.canary"]] * 2
