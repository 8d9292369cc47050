"""Answers of models, in any cut: what was taken out is put back, and nothing else is another."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from stockade.privacy.finding import Finding
from stockade.privacy.redact import Vault
from stockade.proxy.answers import Answer

HOST, NAME = "api.openai.com", 'Ann "A" O\'Hara'
VAULT = Vault()
TEXT = f"Ask {NAME} now."
HELD = VAULT.redact(TEXT, [Finding(4, 4 + len(NAME), "pii.staff", "x", 1.0)], HOST)


def read(kind: str, pieces: Iterable[bytes]) -> tuple[bytes, Answer]:
    answer = Answer(kind, lambda within: VAULT.stream(HOST, within_json=within))
    return b"".join([*map(answer.feed, pieces), answer.end()]), answer


def events(lines: bytes) -> list[dict[str, object]]:
    return [json.loads(line[5:]) for line in lines.split(b"\n") if line.startswith(b"data:") and b"[DONE]" not in line]


def openai(size: int) -> bytes:
    deltas = [{"content": HELD[at : at + size]} for at in range(0, len(HELD), size)]
    made = [{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    made.append({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in made) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("size", range(1, len(HELD) + 1))
def test_a_stream_of_openai_in_pieces_of_any_size(size: int) -> None:
    made, _ = read("text/event-stream; charset=utf-8", [openai(size)])
    choices = [event["choices"][0] for event in events(made)]  # type: ignore[index]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == TEXT
    assert choices[-1]["finish_reason"] == "stop"
    assert made.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_the_wire_may_cut_anywhere(cut: int) -> None:
    whole = openai(5)
    at_once, answer = read("text/event-stream", [whole])
    in_pieces, other = read("text/event-stream", [whole[at : at + cut] for at in range(0, len(whole), cut)])
    assert at_once == in_pieces
    assert answer.digest() == other.digest()


def test_arguments_of_a_tool_call_stay_json_and_its_name_is_told() -> None:
    arguments = json.dumps({"who": HELD}, ensure_ascii=False)
    start = {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "look_up", "input": {}}}
    deltas = [
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": arguments[at : at + 4]}}
        for at in range(0, len(arguments), 4)
    ]
    lines = b"".join(
        f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode()
        for each in [start, *deltas, {"type": "content_block_stop", "index": 1}]
    )
    made, answer = read("text/event-stream", [lines])
    said = "".join(event["delta"]["partial_json"] for event in events(made) if "delta" in event)  # type: ignore[index]
    assert json.loads(said) == {"who": TEXT}
    assert answer.tools() == ["look_up"]
    assert events(made)[-1]["type"] == "content_block_stop"


def test_one_object_and_lines_of_ollama() -> None:
    made, _ = read("application/json", [json.dumps({"choices": [{"message": {"content": HELD}}]}).encode()])
    assert json.loads(made)["choices"][0]["message"]["content"] == TEXT
    lines = [{"message": {"content": HELD[at : at + 3]}, "done": False} for at in range(0, len(HELD), 3)]
    made, _ = read(
        "application/x-ndjson", [json.dumps(each).encode() + b"\n" for each in [*lines, {"message": {"content": ""}, "done": True}]]
    )
    said = [json.loads(line) for line in made.splitlines()]
    assert "".join(each["message"]["content"] for each in said) == TEXT
    assert [each["done"] for each in said][-1] is True


def test_what_is_no_json_and_what_has_nothing_to_put_back_passes_as_it_came() -> None:
    assert read("application/json", [b"<html>"])[0] == b"<html>"
    quiet = Answer("text/event-stream", None)
    assert [quiet.feed(b"data: {}"), quiet.feed(b"\n\n"), quiet.end()] == [b"data: {}", b"\n\n", b""]
