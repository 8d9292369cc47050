"""Answers that pass: values are put back however the octets and the placeholder are cut, and the rest passes as it came."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from stockade.privacy.extract import Api
from stockade.privacy.extract.answers import AnswerReader
from stockade.privacy.finding import Finding
from stockade.privacy.redact import Vault

HOST = "api.example.com"
VALUE = 'Zoë "Zo" Nakamura'
SSE, LINES = "text/event-stream; charset=utf-8", "application/x-ndjson"


def vault() -> tuple[Vault, str]:
    made = Vault()
    return made, made.redact(VALUE, [Finding(0, len(VALUE), "pii.person", "test", 1.0)], HOST)


def reader(of: Vault, api: Api, kind: str, **more: str) -> AnswerReader:
    return AnswerReader(api, kind, lambda within: of.stream(HOST, within_json=within), **more)


def passed(read: AnswerReader, *pieces: bytes) -> bytes:
    return b"".join([*map(read.feed, pieces), read.end()])


def sse(*messages: Any, end: str = "\n") -> bytes:
    made = ""
    for message in messages:
        if isinstance(message, dict):
            named = f"event: {message['type']}{end}" if "type" in message else ""
            made += f"{named}data: {json.dumps(message, ensure_ascii=False)}{end}{end}"
        else:
            made += f"{message}{end}{end}"
    return made.encode()


def messages(stream: bytes) -> list[Any]:
    lines = stream.decode().replace("\r\n", "\n").split("\n")
    found = [line.removeprefix("data: ") for line in lines if line.startswith(("data: ", "{"))]
    return [json.loads(line) for line in found if line != "[DONE]"]


def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5", "choices": [choice]}


def openai(first: str, second: str) -> list[Any]:
    return [
        ": keep-alive",
        chunk(0, {"role": "assistant", "content": ""}),
        chunk(0, {"content": f"Grüße, {first}"}),
        chunk(1, {"role": "assistant", "content": f"One {first}"}),
        chunk(0, {"content": second}),
        chunk(1, {"content": second}),
        chunk(0, {}, "stop"),
        chunk(2, {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "look_up", "arguments": ""}}]}),
        chunk(2, {"tool_calls": [{"index": 0, "function": {"arguments": f'{{"who":"{first}'}}]}),
        chunk(2, {"tool_calls": [{"index": 0, "function": {"arguments": f'{second}"}}'}}]}),
        chunk(2, {}, "tool_calls"),
        chunk(1, {"content": " and more"}, "stop"),
        {**chunk(0, {}), "choices": [], "usage": {"total_tokens": 9}},
        "data: [DONE]",
    ]


def said_by_openai(stream: bytes) -> dict[int, str]:
    texts: dict[int, str] = {}
    over: set[int] = set()
    for message in messages(stream):
        for choice in message["choices"]:
            index, delta = choice["index"], choice["delta"]
            calls = delta.get("tool_calls", [])
            text = (delta.get("content") or "") + "".join(call["function"]["arguments"] for call in calls)
            assert not text or index not in over, "text after the end of its choice"
            texts[index] = texts.get(index, "") + text
            over |= {index} if choice["finish_reason"] else set()
    return texts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_openai_at_every_cut_of_the_placeholder(end: str) -> None:
    of, mark = vault()
    for cut in range(len(mark) + 1):
        read = reader(of, Api.OPENAI_CHAT, SSE)
        made = passed(read, sse(*openai(mark[:cut], mark[cut:]), end=end)).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        told = said_by_openai(made)
        assert told == {
            0: f"Grüße, {VALUE}",
            1: f"One {VALUE} and more",
            2: json.dumps({"who": VALUE}, ensure_ascii=False).replace(": ", ":"),
        }
        assert read.tools == ["look_up"] and read.unreadable is None


def test_a_text_that_ends_within_a_placeholder_is_whole_before_its_choice_ends() -> None:
    of, mark = vault()
    for cut in range(1, len(mark) - 1):  # without its last bracket it still is one
        read = reader(of, Api.OPENAI_CHAT, SSE)
        made = passed(read, sse(chunk(0, {"content": f"see {mark[:cut]}"}), chunk(0, {}, "stop"), "data: [DONE]"))
        assert said_by_openai(made) == {0: f"see {mark[:cut]}"} and made.endswith(b"data: [DONE]\n\n")
        read = reader(of, Api.OPENAI_CHAT, SSE)
        assert said_by_openai(passed(read, sse(chunk(0, {"content": f"see {mark[:cut]}"})))) == {0: f"see {mark[:cut]}"}


def block(kind: str, index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": f"content_block_{kind}", "index": index, **delta}


def anthropic(first: str, second: str) -> list[Any]:
    return [
        {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 1}}},
        {"type": "ping"},
        block("start", 0, {"content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        block("delta", 0, {"delta": {"type": "thinking_delta", "thinking": f"über {first}"}}),
        block("delta", 0, {"delta": {"type": "thinking_delta", "thinking": second}}),
        block("delta", 0, {"delta": {"type": "signature_delta", "signature": "c2ln"}}),
        block("stop", 0, {}),
        block("start", 1, {"content_block": {"type": "text", "text": ""}}),
        block("delta", 1, {"delta": {"type": "text_delta", "text": f"I am {first}"}}),
        {"type": "ping"},
        block("delta", 1, {"delta": {"type": "text_delta", "text": second}}),
        block("stop", 1, {}),
        block("start", 2, {"content_block": {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}}),
        block("delta", 2, {"delta": {"type": "input_json_delta", "partial_json": f'{{"n": "{first}'}}),
        block("delta", 2, {"delta": {"type": "input_json_delta", "partial_json": f'{second}"}}'}}),
        block("stop", 2, {}),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]


def said_by_anthropic(stream: bytes) -> dict[int, str]:
    texts: dict[int, str] = {}
    over: set[int] = set()
    for message in messages(stream):
        if message["type"] == "content_block_delta":
            delta = message["delta"]
            assert message["index"] not in over
            more = "".join(delta.get(key, "") for key in ("text", "thinking", "partial_json"))
            texts[message["index"]] = texts.get(message["index"], "") + more
        elif message["type"] == "content_block_stop":
            over.add(message["index"])
    return texts


def test_anthropic_at_every_cut_of_the_placeholder() -> None:
    of, mark = vault()
    for cut in range(len(mark) + 1):
        read = reader(of, Api.ANTHROPIC_MESSAGES, SSE)
        told = said_by_anthropic(passed(read, sse(*anthropic(mark[:cut], mark[cut:]))))
        assert told == {0: f"über {VALUE}", 1: f"I am {VALUE}", 2: '{"n": ' + json.dumps(VALUE, ensure_ascii=False) + "}"}
        assert read.tools == ["find"] and read.unreadable is None
    stream = sse(*anthropic(mark[:5], "")[:12])
    assert said_by_anthropic(passed(reader(of, Api.ANTHROPIC_MESSAGES, SSE), stream)) == {0: f"über {mark[:5]}", 1: f"I am {mark[:5]}"}


def ollama(first: str, second: str) -> bytes:
    def line(text: str, done: bool = False, **more: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, **more}
        return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done}

    call = {"function": {"name": "find", "arguments": {"who": first + second}}}
    told = [
        line("", thinking=f"ü {first}"),
        line("", thinking=second),
        line(f"Hi {first}"),
        line(second, tool_calls=[call]),
        line("", done=True),
    ]
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in told)


def said_by_ollama(stream: bytes) -> tuple[str, str, list[Any]]:
    found = messages(stream)
    assert [each["done"] for each in found] == [False] * (len(found) - 1) + [True]
    inner = [each["message"] for each in found]
    calls = [call["function"]["arguments"] for each in inner for call in each.get("tool_calls", [])]
    return "".join(each.get("thinking", "") for each in inner), "".join(each["content"] for each in inner), calls


def test_ollama_at_every_cut_of_the_placeholder() -> None:
    of, mark = vault()
    for cut in range(len(mark) + 1):
        read = reader(of, Api.OLLAMA_CHAT, LINES)
        assert said_by_ollama(passed(read, ollama(mark[:cut], mark[cut:]))) == (f"ü {VALUE}", f"Hi {VALUE}", [{"who": VALUE}])
        assert read.tools == ["find"]
    assert said_by_ollama(passed(reader(of, Api.OLLAMA_CHAT, LINES), ollama(mark[:7], "")))[:2] == (f"ü {mark[:7]}", f"Hi {mark[:7]}")
    lines = [{"model": "m", "response": mark[:4], "done": False}, {"model": "m", "response": mark[4:], "done": True, "context": [1]}]
    stream = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
    made = messages(passed(reader(of, Api.OLLAMA_GENERATE, LINES), stream))
    assert "".join(each["response"] for each in made) == VALUE and made[-1]["context"] == [1]


def _streams(first: str, second: str) -> list[tuple[Api, str, bytes]]:
    return [
        (Api.OPENAI_CHAT, SSE, sse(*openai(first, second))),
        (Api.OPENAI_CHAT, SSE, sse(*openai(first, second), end="\r\n")),
        (Api.ANTHROPIC_MESSAGES, SSE, sse(*anthropic(first, second))),
        (Api.OLLAMA_CHAT, LINES, ollama(first, second)),
    ]


def test_the_octets_may_be_cut_anywhere() -> None:
    of, mark = vault()
    for api, kind, stream in _streams(mark[:6], mark[6:]):
        whole = passed(reader(of, api, kind), stream)
        assert json.dumps(VALUE, ensure_ascii=False)[1:-1].encode() in whole
        for cut in range(len(stream)):
            assert passed(reader(of, api, kind), stream[:cut], stream[cut:]) == whole
        assert passed(reader(of, api, kind), *(stream[at : at + 1] for at in range(len(stream)))) == whole


def test_what_does_not_change_passes_octet_for_octet() -> None:
    of, _ = vault()
    for api, kind, stream in _streams("so", "me"):
        read = reader(of, api, kind)
        assert passed(read, stream) == stream and read.unreadable is None


def test_text_and_digest_are_of_what_came() -> None:
    of, mark = vault()
    read = reader(of, Api.OPENAI_CHAT, SSE)
    passed(read, sse(chunk(0, {"content": mark[:5]}), chunk(0, {"content": mark[5:]}), chunk(0, {}, "stop")))
    assert read.text == mark and read.sha256 == hashlib.sha256(mark.encode()).hexdigest()


def test_an_answer_that_is_one_object() -> None:
    of, mark = vault()
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": json.dumps({"who": mark})}}
    body = {
        "id": mark,
        "created": 1,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": f"I am {mark}", "tool_calls": [call]}}],
    }
    read = reader(of, Api.OPENAI_CHAT, "application/json")
    raw = json.dumps(body).encode()
    made = json.loads(passed(read, raw[:40], raw[40:]))
    inner = made["choices"][0]["message"]
    assert inner["content"] == f"I am {VALUE}" and json.loads(inner["tool_calls"][0]["function"]["arguments"]) == {"who": VALUE}
    assert made["id"] == mark and read.tools == ["find"] and read.unreadable is None
    blocks = [{"type": "text", "text": mark}, {"type": "tool_use", "id": "t", "name": "f", "input": {"id": mark}}]
    raw = json.dumps({"type": "message", "content": blocks}).encode()
    made = json.loads(passed(reader(of, Api.ANTHROPIC_MESSAGES, "application/json"), raw))
    assert made["content"][0]["text"] == VALUE and made["content"][1]["input"] == {"id": VALUE}
    raw = b'{ "content": [ {"type": "text", "text": "plain"} ], "n": 1.10 }'
    assert passed(reader(of, Api.ANTHROPIC_MESSAGES, "application/json"), raw) == raw


@pytest.mark.parametrize(
    ("kind", "encoding", "why"),
    [(SSE, "gzip", "encoding"), ("application/json", "br", "encoding"), ("text/html", "", "unknown_body"), ("", "", "unknown_body")],
)
def test_what_is_not_read_passes_as_it_came(kind: str, encoding: str, why: str) -> None:
    of, mark = vault()
    read = reader(of, Api.OPENAI_CHAT, kind, encoding=encoding)
    stream = sse(*openai(mark, ""))
    assert passed(read, stream) == stream and read.unreadable == why


def test_from_what_cannot_be_read_on_everything_passes_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    of, mark = vault()
    start, rest = sse(chunk(0, {"content": mark}), chunk(0, {"content": mark[:5]})), b"data: {broken\n\n" + sse(chunk(0, {"content": mark}))
    read = reader(of, Api.OPENAI_CHAT, SSE)
    made = passed(read, start, rest)
    assert made.endswith(rest) and said_by_openai(made[: -len(rest)]) == {0: VALUE + mark[:5]} and read.unreadable == "not_json"
    monkeypatch.setattr("stockade.privacy.extract.sse.MESSAGE", 2000)
    for kind in (SSE, LINES):
        read = reader(of, Api.OPENAI_CHAT, kind)
        huge = b"data: " + b"x" * 3000
        assert passed(read, huge[:1500], huge[1500:], sse("end")) == huge + sse("end") and read.unreadable == "too_large"
    monkeypatch.setattr("stockade.privacy.extract.answers.WHOLE", 50)
    read = reader(of, Api.OPENAI_CHAT, "application/json")
    assert passed(read, b'{"a": "' + b"x" * 60, b'"}') == b'{"a": "' + b"x" * 60 + b'"}' and read.unreadable == "too_large"
