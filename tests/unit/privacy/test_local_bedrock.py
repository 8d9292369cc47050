"""Bedrock's converse and invoke asked of a local server, and their answers, whole and as its stream of binary events, cut anywhere."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from stockade.policy.privacy import Local
from stockade.privacy.extract.answers import AnswerReader
from stockade.privacy.extract.body import extract
from stockade.privacy.extract.call import Api
from stockade.privacy.extract.eventstream import Messages
from stockade.privacy.local import Translator, Untranslatable
from stockade.privacy.local.bedrock import STREAM

LOCAL = Local("http://localhost:8000/v1", "nemotron", models=(("us.anthropic.claude-v1:0", "small"),))
PROFILE = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fx"
SCHEMA = {"type": "object", "properties": {"mrn": {"type": "string"}}}
CONVERSE: dict[str, Any] = {
    "system": [{"text": "You are brief."}, {"cachePoint": {"type": "default"}}],
    "messages": [
        {"role": "user", "content": [{"text": "Look"}, {"document": {"format": "txt", "name": "n", "source": {"bytes": "YWJj"}}}]},
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "x"}}},
                {"text": "I look."},
                {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"mrn": "12"}}},
            ],
        },
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"json": {"age": 7}}, {"text": "found"}]}}]},
    ],
    "inferenceConfig": {"maxTokens": 64, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
    "toolConfig": {
        "tools": [{"toolSpec": {"name": "look", "description": "looks", "inputSchema": {"json": SCHEMA}}}],
        "toolChoice": {"tool": {"name": "look"}},
    },
}
SAID = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Grü"}}]},
    {"choices": [{"index": 0, "delta": {"content": "ße"}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "look", "arguments": '{"mrn":'}}]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '"12"}'}}]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}},
]
STREAMED = b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in SAID) + b"data: [DONE]\n\n"
WHOLE = json.dumps(
    {
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Grüße",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"mrn":"12"}'}}],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
).encode()


def asked(api: Api, body: dict[str, Any], path: str) -> Translator:
    return Translator(api, json.dumps(body).encode(), LOCAL, path=path)


def answered(translator: Translator, data: bytes, step: int = 5) -> bytes:
    return b"".join(translator.feed(data[at : at + step]) for at in range(0, len(data), step)) + translator.end()


def events(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The kind and the payload of each message; each with CRCs that are right."""
    found = []
    reader = Messages()
    for message in reader.feed(data):
        headers, at = {}, 0
        while at < len(message.headers):  # type: ignore[attr-defined]
            raw: bytes = message.headers  # type: ignore[attr-defined]
            name = raw[at + 1 : at + 1 + raw[at]].decode()
            at += 1 + raw[at]
            assert raw[at] == 7
            size = int.from_bytes(raw[at + 1 : at + 3], "big")
            headers[name], at = raw[at + 3 : at + 3 + size].decode(), at + 3 + size
        found.append((headers.get(":event-type") or headers[":exception-type"], json.loads(message.payload)))  # type: ignore[attr-defined]
    assert list(reader.end()) == []
    return found


def test_a_converse_is_asked_as_a_chat() -> None:
    translator = asked(Api.BEDROCK_CONVERSE, CONVERSE, "/model/us.anthropic.claude-v1%3A0/converse")
    made = json.loads(translator.outgoing.body)
    assert (translator.outgoing.path, made["model"], made["stream"]) == ("/v1/chat/completions", "small", False)
    assert made["messages"] == [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "Look\nabc"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"mrn":"12"}'}}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": '{"age":7}\nfound'},
    ]
    assert (made["max_tokens"], made["temperature"], made["top_p"], made["stop"]) == (64, 0.5, 0.9, ["END"])
    assert made["tools"][0]["function"] == {"name": "look", "description": "looks", "parameters": SCHEMA}
    assert made["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert json.loads(asked(Api.BEDROCK_CONVERSE, CONVERSE, f"{PROFILE}/converse-stream").outgoing.body)["stream"] is True
    assert json.loads(asked(Api.BEDROCK_CONVERSE, CONVERSE, f"{PROFILE}/converse").outgoing.body)["model"] == "nemotron"


def test_what_is_sent_locally_is_all_that_was_read() -> None:
    """No text that the classifier saw is left out without a word."""
    body = json.dumps(CONVERSE).encode()
    made = asked(Api.BEDROCK_CONVERSE, CONVERSE, "/model/m/converse").outgoing.body.decode()
    for text in extract(Api.BEDROCK_CONVERSE, [], body).texts:
        assert text in ("hm", "n", "mrn", "12", "age", "abc") or json.dumps(text)[1:-1] in made, text


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_an_answer_is_told_as_converse_tells_it(step: int) -> None:
    whole = asked(Api.BEDROCK_CONVERSE, CONVERSE, "/model/m/converse")
    found = json.loads(answered(whole, WHOLE, step))
    text, use = found["output"]["message"]["content"]
    assert (text, use["toolUse"]["name"], use["toolUse"]["input"]) == ({"text": "Grüße"}, "look", {"mrn": "12"})
    assert (found["stopReason"], found["usage"]) == ("tool_use", {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10})
    stream = asked(Api.BEDROCK_CONVERSE, CONVERSE, "/model/m/converse-stream")
    assert stream.content_type == STREAM
    told = events(answered(stream, STREAMED, step))
    assert [kind for kind, _ in told] == [
        *("messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop"),
        *("contentBlockStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"),
    ]
    assert told[4][1]["start"]["toolUse"]["name"] == "look" and told[4][1]["contentBlockIndex"] == 1
    assert "".join(value["delta"]["text"] for _, value in told[1:3]) == "Grüße"
    assert json.loads("".join(value["delta"]["toolUse"]["input"] for _, value in told[5:7])) == {"mrn": "12"}
    assert (told[8][1], told[9][1]["usage"]["totalTokens"]) == ({"stopReason": "tool_use"}, 10)


def test_an_invoke_of_anthropic_is_translated_and_another_makers_is_not() -> None:
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "Look"}]}
    whole = asked(Api.BEDROCK_INVOKE, body, "/model/m/invoke")
    assert json.loads(whole.outgoing.body)["messages"] == [{"role": "user", "content": "Look"}]
    assert [block["type"] for block in json.loads(answered(whole, WHOLE))["content"]] == ["text", "tool_use"]
    stream = asked(Api.BEDROCK_INVOKE, body, "/model/m/invoke-with-response-stream")
    told = events(answered(stream, STREAMED))
    assert {kind for kind, _ in told} == {"chunk"}
    inner = [json.loads(base64.b64decode(value["bytes"])) for _, value in told]
    assert (inner[0]["type"], inner[-1]["type"]) == ("message_start", "message_stop")
    assert "".join(each["delta"]["text"] for each in inner if each.get("delta", {}).get("type") == "text_delta") == "Grüße"
    with pytest.raises(Untranslatable, match="use converse"):
        asked(Api.BEDROCK_INVOKE, {"inputText": "Look"}, "/model/amazon.titan/invoke")


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": "eA=="}}}]}]},
        {"messages": [{"role": "user", "content": [{"document": {"format": "pdf", "name": "n", "source": {"bytes": "eA=="}}}]}]},
        {"messages": [{"role": "user", "content": [{"document": {"format": "txt", "name": "n", "source": {"bytes": "/w=="}}}]}]},
        {"messages": [{"role": "system", "content": [{"text": "x"}]}]},
        {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
        {"promptVariables": {"a": {"text": "x"}}},
        {"additionalModelRequestFields": {"instructions": "x"}},
        {"messages": "x"},
        {"toolConfig": {"tools": [{"toolSpec": {"name": "look"}}]}},
    ],
)
def test_what_cannot_be_said_is_not_asked(change: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable):
        asked(Api.BEDROCK_CONVERSE, CONVERSE | change, "/model/m/converse")


@pytest.mark.parametrize(("api", "verb"), [(Api.BEDROCK_CONVERSE, "converse-stream"), (Api.BEDROCK_INVOKE, "invoke-with-response-stream")])
def test_half_an_answer_ends_as_an_exception_of_the_stream_and_the_record_reads_what_was_told(api: Api, verb: str) -> None:
    body = CONVERSE if api is Api.BEDROCK_CONVERSE else {"anthropic_version": "x", "max_tokens": 9, "messages": CONVERSE["messages"][:0]}
    translator = asked(api, body, f"/model/m/{verb}")
    begun = translator.feed(STREAMED[: STREAMED.index(b'{"choices": [{"index": 0, "delta": {"tool_calls"') - len("data: ")])
    assert events(begun + translator.fail("it broke off"))[-1] == ("internalServerException", {"message": "it broke off"})

    class Kept:
        def feed(self, piece: str) -> str:
            return piece

        def flush(self) -> str:
            return ""

    reader = AnswerReader(api, STREAM, lambda _within_json: Kept())
    whole = asked(api, body, f"/model/m/{verb}")
    data = answered(whole, STREAMED)
    assert reader.feed(data) + reader.end() == data
    assert (reader.unreadable, list(reader.tools)) == (None, ["look"])
