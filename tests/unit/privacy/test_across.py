"""Sentences that go on over the border of two texts, read by the model that is shipped: what it finds there, and what it is not given."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stockade.privacy.classify import Classifier, goes_on
from stockade.privacy.extract import Api, extract
from stockade.privacy.finding import Finding
from stockade.privacy.ner import TokenModel
from stockade.privacy.patterns import Patterns
from stockade.proxy.inference import alone, lanes, spoken


class Reading:
    """The model, and what it was given."""

    name = version = "model"

    def __init__(self, model: TokenModel) -> None:
        self._model = model
        self.read: list[str] = []

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        self.read += texts
        return self._model.find(texts)


@pytest.fixture(scope="module")
def model() -> TokenModel:
    return TokenModel.load()


@pytest.fixture
def reading(model: TokenModel) -> Reading:
    return Reading(model)


def found(reading: Reading, texts: Sequence[str], *, of: Sequence[Sequence[int]] = (), words: Sequence[int] | None = None) -> list[str]:
    """What is covered by a finding about a patient, of each text."""
    told = range(len(texts)) if words is None else words
    findings = Classifier([reading]).classify(texts, conversation=True, lanes=of, spoken=told)
    return [
        "".join(text[f.start : f.end] for f in each if f.category == "phi.identifier") for text, each in zip(texts, findings, strict=True)
    ]


SENTENCE = "Our patient John Carmichael is HIV positive"


def test_a_sentence_cut_into_letters_is_read_as_one(reading: Reading) -> None:
    assert "".join(found(reading, list(SENTENCE))).endswith("John Carmichael")
    assert sum(map(len, reading.read)) < 8 * len(SENTENCE)  # each letter for itself, and what is around all of them once or twice


def test_a_name_cut_by_two_messages_of_one_role_is_found_in_both(reading: Reading) -> None:
    texts = ["the lady in bed 4 is called Ade", "Who is that?", "bayo, she has sepsis"]
    assert found(reading, texts, of=[[0, 2]]) == ["Ade", "", "bayo"]
    reading.read.clear()
    assert found(reading, texts, of=[[0, 2]], words=[]) == ["", "", ""]
    assert sorted(reading.read) == sorted(texts)


def test_words_that_two_messages_separate_are_read_with_a_space(reading: Reading) -> None:
    assert found(reading, ["The woman is called Amber", "Stone, she has sepsis"]) == ["Amber", "Stone"]
    assert "The woman is called Amber Stone, she has sepsis" in reading.read
    assert "The woman is called AmberStone, she has sepsis" not in reading.read


def test_what_ends_is_read_for_itself_and_so_are_keys_and_values(reading: Reading) -> None:
    texts = ["It rained.", "The pier was wet\n", "and so on", "```x```", "- a point.", "What then?"]
    found(reading, texts)
    assert sorted(reading.read) == sorted(texts)
    body = b"""{"model": "gpt-4o", "messages": [{"role": "user", "content": "when is ebb"}, {"role": "assistant", "tool_calls":
        [{"type": "function", "function": {"name": "tide", "arguments": "{\\"place\\": \\"Pier\\", \\"skipper\\": \\"north\\"}"}}]}]}"""
    call = extract(Api.OPENAI_CHAT, [], body)
    reading.read.clear()
    found(reading, call.texts, of=lanes(call), words=spoken(call))
    assert sorted(reading.read) == sorted(call.texts)


def test_a_conversation_that_grows_has_only_its_end_read_anew(reading: Reading) -> None:
    texts = [f"and message {number} says this and that about the weather of the coast without an end" for number in range(12)]
    found(reading, texts)
    before = set(reading.read)
    reading.read.clear()
    found(reading, [*texts, "one more"])
    assert sum(map(len, set(reading.read) - before)) < 1200 < sum(map(len, texts)) + 400


@pytest.mark.parametrize(
    ("text", "after", "goes"),
    [
        ("patient Joh", "n Carmichael", True),
        ("patient John ", "Carmichael", True),
        ("Carmichael,", "John", True),
        ("seen by Dr.", "Carmichael", True),
        ("J.", "Carmichael", True),
        ("O", "'Brien", True),
        ("He came.", "Carmichael too", False),
        ("He came.)", "Carmichael too", False),
        ("He came", "", False),
        ("", "Carmichael", False),
        ("a line\n", "Carmichael", False),
        ("a line", "\nCarmichael", False),
        ("{}", "Carmichael", False),
        ("He came", "{}", False),
    ],
)
def test_where_a_sentence_may_go_on(text: str, after: str, goes: bool) -> None:
    assert goes_on(text, after) is goes


def test_the_name_of_a_model_is_read_by_itself_and_a_card_in_it_is_found() -> None:
    def cards(body: bytes) -> list[str]:
        call = extract(Api.OPENAI_CHAT, [], body)
        found = Classifier([Patterns()]).classify(call.texts, conversation=True, lanes=lanes(call), spoken=spoken(call), apart=alone(call))
        return [text[f.start : f.end] for text, each in zip(call.texts, found, strict=True) for f in each]

    message = b'{"role": "user", "content": "%s"}'
    assert cards(b'{"model": "4111 1111 1111 1111", "messages": [' + message % b"Hi" + b"]}") == ["4111 1111 1111 1111"]
    halves = b", ".join([message % b"it is 4111 1111", message % b"1111 1111, thanks"])
    assert cards(b'{"model": "m", "messages": [' + halves + b"]}") == ["4111 1111", "1111 1111"]
    assert cards(b'{"model": "4111 1111", "messages": [' + message % b"1111 1111, thanks" + b"]}") == []
