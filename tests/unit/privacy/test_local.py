"""A client's call in its own API, asked of a local server in another, whole and streamed, cut anywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockade.policy.privacy import Local
from stockade.privacy.extract.call import Api
from stockade.privacy.local import Translator, Untranslatable
from stockade.privacy.local.form import LocalFailure
from stockade.privacy.local.translator import REFUSED

OPENAI = Local("http://localhost:8000", "nemotron", models=(("claude-haiku*", "small"),))
OLLAMA = Local("http://localhost:11434", "nemotron", api="ollama", context=4096)
TOOL = {"type": "object", "properties": {"mrn": {"type": "string"}}}

CLIENTS: dict[Api, dict[str, Any]] = {
    Api.OPENAI_CHAT: {
        "model": "gpt-5",
        "user": "somebody",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}],
        "tools": [{"type": "function", "function": {"name": "look", "description": "", "parameters": TOOL}}],
    },
    Api.ANTHROPIC_MESSAGES: {
        "model": "claude-opus",
        "max_tokens": 64,
        "metadata": {"user_id": "somebody"},
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}],
        "tools": [{"name": "look", "input_schema": TOOL}],
    },
    Api.OLLAMA_CHAT: {
        "model": "llama",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}],
        "tools": [{"type": "function", "function": {"name": "look", "description": "", "parameters": TOOL}}],
    },
    Api.OLLAMA_GENERATE: {"model": "llama", "system": "Be brief.", "prompt": "Who?"},
}


def sse(*objects: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in objects) + b"data: [DONE]\n\n"


def chunk(stop: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": stop}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"mrn":'}}
MORE = {"index": 0, "function": {"arguments": '"12"}'}}
SERVERS = {
    ("openai", True): sse(
        chunk(role="assistant", content=""),
        chunk(content="Dr. Ök"),
        chunk(tool_calls=[CALL]),
        chunk(tool_calls=[MORE]),
        chunk("tool_calls"),
        USAGE,
    ),
    ("openai", False): json.dumps(
        {
            "choices": [
                {
                    "message": {"content": "Dr. Ök", "tool_calls": [{**CALL, "function": {"name": "look", "arguments": '{"mrn":"12"}'}}]},
                    "finish_reason": "tool_calls",
                }
            ],
            "usage": USAGE["usage"],
        }
    ).encode(),
}
for streamed in (True, False):
    look = [{"function": {"name": "look", "arguments": {"mrn": "12"}}}]
    done = {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3}
    lines = [{"message": {"content": "Dr. "}}, {"message": {"content": "Ök"}}, {"message": {"content": "", "tool_calls": look}, **done}]
    whole = [{"message": {"content": "Dr. Ök", "tool_calls": look}, **done}]
    SERVERS["ollama", streamed] = b"".join(json.dumps(each).encode() + b"\n" for each in (lines if streamed else whole))


def asked(api: Api, local: Local, stream: bool = False, **more: Any) -> Translator:
    return Translator(api, json.dumps({**CLIENTS[api], "stream": stream, **more}).encode(), local)


def answered(translator: Translator, data: bytes, step: int) -> bytes:
    return b"".join(translator.feed(data[at : at + step]) for at in range(0, len(data), step)) + translator.end()


@pytest.mark.parametrize("api", CLIENTS)
@pytest.mark.parametrize("local", [OPENAI, OLLAMA], ids=["openai", "ollama"])
def test_what_is_asked(api: Api, local: Local) -> None:
    outgoing = asked(api, local).outgoing
    body = json.loads(outgoing.body)
    assert outgoing.path == ("/api/chat" if local is OLLAMA else "/v1/chat/completions")
    assert body["model"] == "nemotron" and body["stream"] is False
    assert [(each["role"], each["content"]) for each in body["messages"]] == [("system", "Be brief."), ("user", "Who?")]
    if api is not Api.OLLAMA_GENERATE:
        assert body["tools"] == [{"type": "function", "function": {"name": "look", "description": "", "parameters": TOOL}}]
    assert b"somebody" not in outgoing.body  # who the user is at the provider is not for the local server
    if local is OLLAMA:
        assert body["options"]["num_ctx"] == 4096  # or Ollama cuts the prompt


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("local", [OPENAI, OLLAMA], ids=["openai", "ollama"])
def test_what_an_openai_client_hears(local: Local, stream: bool, step: int) -> None:
    more = {"stream_options": {"include_usage": True}} if stream else {}
    data = answered(asked(Api.OPENAI_CHAT, local, stream, **more), SERVERS[local.api, stream], step)
    if stream:
        *events, done = [line.removeprefix(b"data: ") for line in data.split(b"\n\n") if line]
        assert done == b"[DONE]"
        chunks = [json.loads(each) for each in events]
        deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
        text = "".join(each.get("content") or "" for each in deltas)
        calls = [call["function"] for each in deltas for call in each.get("tool_calls", [])]
        stop, usage = [each["choices"][0]["finish_reason"] for each in chunks if each["choices"]][-1], chunks[-1]["usage"]
        models = {each["model"] for each in chunks}
    else:
        answer = json.loads(data)
        message = answer["choices"][0]["message"]
        text, calls = message["content"], [call["function"] for call in message["tool_calls"]]
        stop, usage, models = answer["choices"][0]["finish_reason"], answer["usage"], {answer["model"]}
    assert (text, stop, models) == ("Dr. Ök", "tool_calls", {"gpt-5"})
    assert calls[0]["name"] == "look" and json.loads("".join(call["arguments"] for call in calls)) == {"mrn": "12"}
    assert usage == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("local", [OPENAI, OLLAMA], ids=["openai", "ollama"])
def test_what_an_anthropic_client_hears_streamed(local: Local, step: int) -> None:
    data = answered(asked(Api.ANTHROPIC_MESSAGES, local, True), SERVERS[local.api, True], step)
    events = [json.loads(each.split(b"data: ", 1)[1]) for each in data.split(b"\n\n") if each]
    kinds = [event["type"] for event in events]
    assert [kind for kind in kinds if kind != "content_block_delta"] == [
        "message_start",
        *("content_block_start", "content_block_stop") * 2,
        "message_delta",
        "message_stop",
    ]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(each.get("text", "") for each in deltas) == "Dr. Ök"
    assert json.loads("".join(each.get("partial_json", "") for each in deltas)) == {"mrn": "12"}
    assert events[-2]["delta"]["stop_reason"] == "tool_use" and events[-2]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize("local", [OPENAI, OLLAMA], ids=["openai", "ollama"])
def test_what_an_anthropic_client_hears_whole(local: Local) -> None:
    answer = json.loads(answered(asked(Api.ANTHROPIC_MESSAGES, local), SERVERS[local.api, False], 9))
    text, call = answer["content"]
    assert text == {"type": "text", "text": "Dr. Ök"}
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "look", {"mrn": "12"})
    assert (answer["stop_reason"], answer["model"]) == ("tool_use", "claude-opus")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", [Api.OLLAMA_CHAT, Api.OLLAMA_GENERATE])
@pytest.mark.parametrize("local", [OPENAI, OLLAMA], ids=["openai", "ollama"])
def test_what_an_ollama_client_hears(local: Local, api: Api, stream: bool) -> None:
    lines = [json.loads(each) for each in answered(asked(api, local, stream), SERVERS[local.api, stream], 5).splitlines()]
    assert "".join(each.get("response", "") or each.get("message", {}).get("content", "") for each in lines) == "Dr. Ök"
    assert [each["done"] for each in lines] == [False] * (len(lines) - 1) + [True] and lines[-1]["eval_count"] == 3
    if api is Api.OLLAMA_CHAT:
        assert lines[-1]["message"]["tool_calls"] == [{"function": {"name": "look", "arguments": {"mrn": "12"}}}]


def test_tool_results_of_an_anthropic_client_reach_their_calls() -> None:
    messages = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"mrn": "12"}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Eve"}, {"type": "text", "text": "and?"}],
        },
    ]
    made = json.loads(asked(Api.ANTHROPIC_MESSAGES, OPENAI, messages=messages).outgoing.body)["messages"]
    call = {"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": '{"mrn":"12"}'}}
    assert made[2:] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "Eve"},
        {"role": "user", "content": "and?"},
    ]
    to_ollama = json.loads(asked(Api.ANTHROPIC_MESSAGES, OLLAMA, messages=messages).outgoing.body)["messages"]
    assert to_ollama[2]["tool_calls"] == [{"function": {"name": "look", "arguments": {"mrn": "12"}}}]


def test_models_are_mapped_and_no_header_is_the_clients() -> None:
    body = json.dumps({**CLIENTS[Api.ANTHROPIC_MESSAGES], "model": "claude-haiku-4"}).encode()
    assert json.loads(Translator(Api.ANTHROPIC_MESSAGES, body, OPENAI).outgoing.body)["model"] == "small"
    assert set(dict(asked(Api.OPENAI_CHAT, OPENAI).outgoing.headers)) == {"content-type", "accept", "accept-encoding"}


@pytest.mark.parametrize("api", REFUSED)
def test_apis_that_no_local_server_speaks_are_refused_with_a_reason_of_their_own(api: Api) -> None:
    with pytest.raises(Untranslatable, match=REFUSED[api]):
        Translator(api, b"{}", OPENAI)


@pytest.mark.parametrize(
    ("api", "local", "more"),
    [
        (Api.OPENAI_CHAT, OPENAI, {"n": 2}),
        (Api.OPENAI_CHAT, OLLAMA, {"tool_choice": "required"}),
        (Api.OPENAI_CHAT, OLLAMA, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}),
        (Api.ANTHROPIC_MESSAGES, OPENAI, {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}),
        (Api.ANTHROPIC_MESSAGES, OPENAI, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (Api.OLLAMA_CHAT, OPENAI, {"messages": [{"role": "user", "content": "x", "images": ["a"]}]}),
        (Api.ANTHROPIC_MESSAGES, OPENAI, {"messages": "text"}),
    ],
)
def test_what_cannot_be_said_locally_is_refused(api: Api, local: Local, more: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable):
        asked(api, local, **more)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("local", [OPENAI, OLLAMA], ids=["openai", "ollama"])
@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b'{"error": "no such model"}\n', b'data: {"error": {}}\n\n', b"data: [1]\n\n", b'{"message": {"content": "half'],
)
def test_an_answer_that_is_none_is_a_failure(local: Local, stream: bool, data: bytes) -> None:
    translator = asked(Api.OPENAI_CHAT, local, stream)
    with pytest.raises(LocalFailure):
        answered(translator, data, 100)


def test_a_stream_that_breaks_off_is_a_failure() -> None:
    for local in (OPENAI, OLLAMA):
        translator = asked(Api.ANTHROPIC_MESSAGES, local, True)
        data = SERVERS[local.api, True]
        translator.feed(data[: len(data) // 3])
        with pytest.raises(LocalFailure):
            translator.end()
