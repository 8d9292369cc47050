"""Texts made to be slow: four times the text takes about four times the work, whatever it is made of.

No speed is asserted. The bound between the two runs is far above linear and far below quadratic, the shorter run is the best of three, a
floor keeps the noise of a small machine out of the ratio.
"""

from __future__ import annotations

import time

import pytest

from stockade.privacy.classify import Classifier, Settings
from stockade.privacy.documents import Documents, language
from stockade.privacy.patterns import Credentials, Patterns
from stockade.privacy.views import views

CLASSIFIER = Classifier([Patterns(), Credentials(), Documents()])
SIZE = 8_000
NASTY = {
    "letters": "a", "digits": "1", "blanks": " ", "lines": "\n", "unclosed fences": "```x\n", "other fences": "~~~ y z\n", "base64": "QUJD",
    "base64 words": "QUJDREVG ", "hex": "6a", "hex pairs": "6a ", "nested percent": "%25", "percent": "%41", "escapes": "\\u0041",
    "entities": "&amp;", "quotes": '"', "open tags": "<a ", "open calls": "f((", "open keys": "-----BEGIN PRIVATE KEY-----\n",
    "assignments": "password=", "mixed scripts": "\u0430a", "combining": "\u0301", "zero width": "\u200b", "dots": "a.", "ats": "a@",
    "open urls": "http://a:b", "cards": "4111 1111 1111 1111 ", "dates": "12/12/2012 ", "dashes": "1-", "addresses": "1.", "names": "Aa ",
}  # fmt: skip


def work(text: str) -> float:
    started = time.process_time()
    CLASSIFIER.classify([text], Settings())
    return time.process_time() - started


@pytest.mark.parametrize("unit", NASTY.values(), ids=NASTY.keys())
def test_work_grows_with_the_text_and_no_faster(unit: str) -> None:
    short, long = ((unit * (size // len(unit) + 1))[:size] for size in (SIZE, 8 * SIZE))
    least = max(min(work(short) for _ in range(3)), 0.005)
    assert work(long) < 30 * least  # linear: 8, quadratic: 64


def test_views_are_bounded() -> None:
    """However a text is packed, what is read of it in all is a few times its length."""
    for unit in NASTY.values():
        text = (unit * SIZE)[:SIZE]
        assert sum(len(view.text) for view in views(text)) <= 8 * len(text)


def test_fences_that_are_not_closed_are_read_by_their_lines() -> None:
    code = "def f(x):\n    return x + 1\n\nprint(f(2))\n"
    assert [f.category for f in language.find("```python\n" + code)] == ["ip.source_code"]
    closed = "Look:\n```python\n" + code + "```\nwhat is wrong with it?\n"
    (finding,) = language.find(closed)
    assert closed[finding.start : finding.end] == code
    assert list(language.find("a\n```\n\n```\n```text\nx = 1\ny = 2\n```\n")) == []
