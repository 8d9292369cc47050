"""A text of any make is left when nobody waits for it any more, wherever its reading is: no loop goes through one without asking the time.

The clock is counted, not read: it moves on by one whenever it is asked.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st

from fuzz.campaign import mutate
from stockade.privacy import deadline
from stockade.privacy.classify import Classifier
from stockade.privacy.dictionary import Custom, Dictionary
from stockade.privacy.documents import Documents
from stockade.privacy.finding import Finding
from stockade.privacy.patterns import Credentials, Patterns
from stockade.privacy.settings import Settings

CLASSIFIER = Classifier([Patterns(), Credentials(), Documents()])
OWN = Settings(
    custom=(Custom("ward", "W-[0-9]{4}", "phi.identifier"),), dictionaries=(Dictionary("names", "pii.person", (("Achterberg",))),)
)
UNITS = (
    "a", "1", " ", "\n", "```x\n", "QUJDREVG ", "6a ", "%25", "\\u0041", "&amp;", '"', "<a ", "-----BEGIN PRIVATE KEY-----\n", "password=",
    "\u0430a", "\u0301", "a@b.de ", "http://a:b@c ", "4111 1111 1111 1111 ", "12/12/2012 ", "MRN 12345678 ", "Dr. Achterberg MD ",
    "W-1234 ", "E11.9 ", "glucose 110 mg/dL ", "+1 202 555 0143 ",
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.asked = 0

    def monotonic(self) -> float:
        self.asked += 1
        return float(self.asked)


def read(text: str, at: float, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[list[Finding]] | None]:
    """How often the time was asked, and what was found; None where it was over before."""
    clock = Clock()
    with monkeypatch.context() as patched:
        patched.setattr(deadline, "time", clock)
        with deadline.until(at):
            try:
                found = CLASSIFIER.classify([text, text[: len(text) // 2]], OWN, conversation=True)
            except deadline.Late:
                return clock.asked, None
    return clock.asked, found


def test_reading_ends_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(drawn: tuple[list[str], int, float]) -> None:
        units, times, share = drawn
        text = "".join(units) * times
        whole, found = read(text, float("inf"), monkeypatch)
        assert found is not None
        at = int(whole * share)
        asked, none = read(text, at, monkeypatch)
        assert none is None
        assert asked == at + 1  # the very next time that it was asked
        assert read(text, whole, monkeypatch) == (whole, found)

    mutate(st.tuples(st.lists(st.sampled_from(UNITS), min_size=1, max_size=4), st.integers(1, 60), st.floats(0, 0.99)), check, examples=25)


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_what_takes_long_asks_often(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a text holds much to be looked at, more of it is asked about: what one step does is bounded, or a search that is linear."""
    short, long = (read(unit * times, float("inf"), monkeypatch) for times in (200, 1600))
    assert short[1] is not None
    found = list(itertools.chain.from_iterable(short[1]))
    if len(found) >= 100:
        assert long[0] - short[0] >= 1000, f"{len(found)} findings"
    assert long[0] >= short[0] > 2
