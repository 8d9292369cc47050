"""Responses, completions, embeddings and Gemini asked of a local server, and their answers, whole and streamed and cut anywhere."""

from __future__ import annotations

import array
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.policy.privacy import Local
from stockade.privacy.extract.body import extract
from stockade.privacy.extract.call import Api
from stockade.privacy.local import LocalFailure, Translator, Untranslatable
from stockade.privacy.local.translator import REFUSED

OPENAI = Local("http://localhost:8000/v1", "nemotron")
OLLAMA = Local("http://localhost:11434", "nemotron", api="ollama", context=4096)
LOCALS = pytest.mark.parametrize("local", [OPENAI, OLLAMA], ids=["openai", "ollama"])
SCHEMA = {"type": "object", "properties": {"mrn": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "look", "description": "", "parameters": SCHEMA}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"mrn":"12"}'}}


def asked(api: Api, local: Local, body: dict[str, Any], path: str = "", room: int | None = None) -> Translator:
    return Translator(api, json.dumps(body).encode(), local, path=path, room=room)


def sent(api: Api, local: Local, body: dict[str, Any], path: str = "") -> dict[str, Any]:
    made: dict[str, Any] = json.loads(asked(api, local, body, path).outgoing.body)
    return made


def answered(translator: Translator, data: bytes, step: int = 3) -> bytes:
    return b"".join(translator.feed(data[at : at + step]) for at in range(0, len(data), step)) + translator.end()


def chat(stream: bool, local: Local, **message: Any) -> bytes:
    """What a local server says to a chat: its text, then its calls."""
    calls, text = message.get("tool_calls", []), message.get("content", "")
    if local.api == "ollama":
        native = [
            {"function": {"name": each["function"]["name"], "arguments": json.loads(each["function"]["arguments"])}} for each in calls
        ]
        ended = {
            "message": {"content": "", "tool_calls": native},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 7,
            "eval_count": 3,
        }
        lines = (
            [{"message": {"content": piece}} for piece in text] + [ended]
            if stream
            else [ended | {"message": {**ended["message"], "content": text}}]
        )
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    stop, usage = "tool_calls" if calls else "stop", {"prompt_tokens": 7, "completion_tokens": 3}
    if not stream:
        return json.dumps(
            {"choices": [{"message": {"content": text, "tool_calls": calls}, "finish_reason": stop}], "usage": usage}
        ).encode()
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in text]
    for index, each in enumerate(calls):
        arguments = each["function"]["arguments"]
        deltas.append({"tool_calls": [{"index": index, "id": each["id"], "function": {"name": each["function"]["name"], "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in arguments]
    chunks = [{"choices": [{"delta": each, "finish_reason": None}]} for each in deltas]
    chunks += [{"choices": [{"delta": {}, "finish_reason": stop}]}, {"choices": [], "usage": usage}]
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + b"data: [DONE]\n\n"


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[5:]) for line in data.splitlines() if line.startswith(b"data:") and b"[DONE]" not in line]


# Responses

ITEMS = [
    {"role": "user", "content": [{"type": "input_text", "text": "Who?"}]},
    {"type": "reasoning", "summary": [], "encrypted_content": "x"},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"mrn":"12"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "Eve"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Eve."}]},
    {"role": "developer", "content": "Be kind."},
]
RESPONSES = {
    "model": "gpt-5",
    "instructions": "Be brief.",
    "input": ITEMS,
    "max_output_tokens": 99,
    "store": True,
    "user": "somebody",
    "reasoning": {"effort": "low"},
    "tools": [{"type": "function", "name": "look", "description": "", "parameters": SCHEMA, "strict": True}],
}


def test_items_are_messages() -> None:
    made = sent(Api.OPENAI_RESPONSES, OPENAI, RESPONSES)
    assert made["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "Eve"},
        {"role": "assistant", "content": "Eve."},
        {"role": "system", "content": "Be kind."},
    ]
    assert made["tools"] == [TOOL] and made["max_tokens"] == 99
    assert set(made) == {"model", "messages", "stream", "max_tokens", "tools"}
    to_ollama = sent(Api.OPENAI_RESPONSES, OLLAMA, RESPONSES)
    assert to_ollama["messages"][3] == {"role": "tool", "content": "Eve", "tool_name": "look"}
    assert to_ollama["options"] == {"num_ctx": 4096, "num_predict": 99} and to_ollama["truncate"] is False


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_1"},
        {"background": True},
        {"tools": [{"type": "web_search"}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"include": ["web_search_call.action.sources"]},
        {"prompt": {"id": "pmpt_1"}},
        {"tool_choice": {"type": "file_search"}},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]},
    ],
)
def test_what_only_the_provider_has_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable):
        asked(Api.OPENAI_RESPONSES, OPENAI, RESPONSES | more)


@LOCALS
@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_told(local: Local, stream: bool) -> None:
    translator = asked(Api.OPENAI_RESPONSES, local, {"model": "gpt-5", "input": "Who?", "stream": stream})
    data = answered(translator, chat(stream, local, content="Eve ü", tool_calls=[CALL]))
    if stream:
        told = events(data)
        assert [each["sequence_number"] for each in told] == list(range(len(told)))
        kinds = [each["type"] for each in told]
        assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed"
        assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 2
        assert "".join(each["delta"] for each in told if each["type"] == "response.output_text.delta") == "Eve ü"
        assert "".join(each["delta"] for each in told if each["type"] == "response.function_call_arguments.delta") == '{"mrn":"12"}'
        answer = told[-1]["response"]
        assert [each["item"] for each in told if each["type"] == "response.output_item.done"] == answer["output"]
    else:
        answer = json.loads(data)
    text, call = answer["output"]
    assert text["content"][0]["text"] == "Eve ü" and (call["name"], call["arguments"]) == ("look", '{"mrn":"12"}')
    assert (answer["status"], answer["model"], answer["usage"]["total_tokens"]) == ("completed", "gpt-5", 10)


def test_ids_have_forms_that_are_read_as_ids() -> None:
    """Or they would come back with the next call as texts, which by chance look like a key."""
    found = []
    for api, body in (
        (Api.OPENAI_RESPONSES, {"input": "?"}),
        (Api.OPENAI_CHAT, {"messages": []}),
        (Api.ANTHROPIC_MESSAGES, {"messages": []}),
    ):
        answer = json.loads(answered(asked(api, OPENAI, {"model": "gpt-5", **body}), chat(False, OPENAI, content="x", tool_calls=[CALL])))
        found += [value for key, value in walked(answer) if key in ("id", "call_id", "tool_use_id")]
    assert len(found) >= 8
    for each in found:
        body = {"model": "gpt-5", "messages": [{"role": "tool", "tool_call_id": each, "content": "Eve"}]}
        assert list(extract(Api.OPENAI_CHAT, (), json.dumps(body).encode()).texts) == ["Eve"], each


def walked(node: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [found for name, value in node.items() for found in walked(value, name)]
    return [found for value in node for found in walked(value, key)] if isinstance(node, list) else [(key, node)]


# Chats that began with the provider


def test_what_a_provider_says_beside_its_text_stays_behind() -> None:
    history = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
        {"role": "assistant", "content": None, "refusal": "No.", "annotations": [{"url": "x"}], "audio": None, "function_call": None},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [{**CALL, "index": 0}]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Eve"}]},
    ]
    assert sent(Api.OPENAI_CHAT, OPENAI, {"model": "gpt-5", "messages": history})["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
        {"role": "assistant", "content": "No."},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Eve"}]},
    ]
    for more in ({"function_call": {"name": "x"}}, {"audio": {"id": "a"}}, {"tool_calls": [{"type": "custom"}]}, {"other": "text"}):
        with pytest.raises(Untranslatable):
            asked(Api.OPENAI_CHAT, OPENAI, {"messages": [{"role": "assistant", "content": "x", **more}]})


# Completions


@LOCALS
@pytest.mark.parametrize("stream", [False, True])
def test_completions(local: Local, stream: bool) -> None:
    body = {"model": "gpt-3.5-turbo-instruct", "prompt": ["Once upon"], "stop": "\n", "stream": stream, "user": "somebody"}
    translator = asked(Api.OPENAI_COMPLETIONS, local, body)
    made = json.loads(translator.outgoing.body)
    if local is OLLAMA:
        assert translator.outgoing.path == "/api/generate"
        assert (made["prompt"], made["raw"], made["options"]) == ("Once upon", True, {"num_ctx": 4096, "stop": ["\n"], "num_predict": 16})
        ended = {"response": "", "done": True, "done_reason": "length", "prompt_eval_count": 2, "eval_count": 4}
        said = [{"response": "a "}, {"response": "time"}, ended] if stream else [ended | {"response": "a time"}]
        data = b"".join(json.dumps(each).encode() + b"\n" for each in said)
    else:
        assert translator.outgoing.path == "/v1/completions" and (made["prompt"], made["max_tokens"]) == ("Once upon", 16)
        usage = {"usage": {"prompt_tokens": 2, "completion_tokens": 4}}
        chunks = [{"choices": [{"text": "a "}]}, {"choices": [{"text": "time", "finish_reason": "length"}]}, {"choices": [], **usage}]
        whole = {"choices": [{"text": "a time", "finish_reason": "length"}], **usage}
        data = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) if stream else json.dumps(whole).encode()
    told = answered(translator, data)
    answers = events(told) if stream else [json.loads(told)]
    assert "".join(each["choices"][0]["text"] for each in answers) == "a time"
    assert answers[-1]["choices"][0]["finish_reason"] == "length" and {each["model"] for each in answers} == {body["model"]}
    if not stream:
        assert answers[0]["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


@pytest.mark.parametrize("more", [{"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {"n": 2}, {"echo": True}, {"logprobs": 3}, {"best_of": 2}])
def test_completions_that_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable):
        asked(Api.OPENAI_COMPLETIONS, OPENAI, {"model": "m", "prompt": "x"} | more)


# Embeddings

VECTORS = [[0.5, -1.0], [0.25, 2.0]]


def vectors(local: Local, rows: list[list[float]]) -> bytes:
    if local is OLLAMA:
        return json.dumps({"embeddings": rows, "prompt_eval_count": 4}).encode()
    return json.dumps({"data": [{"embedding": row} for row in rows], "usage": {"prompt_tokens": 4}}).encode()


@LOCALS
def test_embeddings(local: Local) -> None:
    translator = asked(Api.OPENAI_EMBEDDINGS, local, {"model": "text-embedding-3-small", "input": ["a", "b"], "encoding_format": "base64"})
    made = json.loads(translator.outgoing.body)
    assert made["input"] == ["a", "b"] and "encoding_format" not in made
    assert (translator.outgoing.path, made.get("truncate")) == (("/api/embed", False) if local is OLLAMA else ("/v1/embeddings", None))
    answer = json.loads(answered(translator, vectors(local, VECTORS)))
    numbers = [list(array.array("f", base64.b64decode(each["embedding"]))) for each in answer["data"]]
    assert numbers == VECTORS and answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4} and answer["model"] == "text-embedding-3-small"
    plain = json.loads(answered(asked(Api.OPENAI_EMBEDDINGS, local, {"model": "m", "input": "a"}), vectors(local, VECTORS[:1])))
    assert plain["data"] == [{"object": "embedding", "index": 0, "embedding": VECTORS[0]}]
    new = json.loads(answered(asked(Api.OLLAMA_EMBED, local, {"model": "m", "input": ["a", "b"]}), vectors(local, VECTORS)))
    assert (new["embeddings"], new["prompt_eval_count"]) == (VECTORS, 4)
    old = json.loads(answered(asked(Api.OLLAMA_EMBED, local, {"model": "m", "prompt": "a"}), vectors(local, VECTORS[:1])))
    assert old == {"embedding": VECTORS[0]}


@LOCALS
def test_an_answer_that_leaves_a_text_out_is_a_failure(local: Local) -> None:
    for rows in (VECTORS[:1], [[], []], []):
        with pytest.raises(LocalFailure):
            answered(asked(Api.OPENAI_EMBEDDINGS, local, {"model": "m", "input": ["a", "b"]}), vectors(local, rows))
    for body in ({"input": [1, 2]}, {"input": []}, {"input": [[1]]}, {}):
        with pytest.raises(Untranslatable):
            asked(Api.OPENAI_EMBEDDINGS, local, {"model": "m", **body})


# Gemini

PATH = "/v1beta/models/gemini-2.5-pro"
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Who?"}]},
        {"role": "model", "parts": [{"text": "hm", "thought": True}, {"functionCall": {"name": "look", "args": {"mrn": "12"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"name": "Eve"}}}]},
    ],
    "tools": [{"functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT", "properties": {"mrn": {"type": "STRING"}}}}]}],
    "generationConfig": {"maxOutputTokens": 50, "temperature": 0, "stopSequences": ["END"]},
    "safetySettings": [{"category": "x", "threshold": "y"}],
}


def test_contents_are_messages() -> None:
    translator = asked(Api.GEMINI, OPENAI, GEMINI, f"{PATH}:generateContent")
    made = json.loads(translator.outgoing.body)
    system, user, called, result = made["messages"]
    assert (system["content"], user["content"], called["content"]) == ("Be brief.", "Who?", None)
    assert called["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"mrn":"12"}'}
    assert result == {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": '{"name":"Eve"}'}
    assert made["tools"] == [TOOL] and made["tool_choice"] == "auto"
    assert (made["max_tokens"], made["temperature"], made["stop"]) == (50, 0, ["END"])
    mapped = Local("http://localhost:8000", "big", models=(("gemini-2.5-p*", "small"),))
    assert asked(Api.GEMINI, mapped, GEMINI, f"{PATH}:generateContent").model == "small"  # which only the path names


@LOCALS
@pytest.mark.parametrize(
    ("verb", "stream"), [("generateContent", False), ("streamGenerateContent?alt=sse", True), ("streamGenerateContent", True)]
)
def test_gemini_answers(local: Local, verb: str, stream: bool) -> None:
    translator = asked(Api.GEMINI, local, {"contents": GEMINI["contents"][:1]}, f"{PATH}:{verb}")  # type: ignore[index]
    data = answered(translator, chat(stream, local, content="Eve ü", tool_calls=[CALL]))
    answers = events(data) if verb.endswith("sse") else json.loads(data) if stream else [json.loads(data)]
    parts = [part for each in answers for part in each["candidates"][0]["content"]["parts"]]
    assert "".join(part.get("text", "") for part in parts) == "Eve ü"
    assert [part["functionCall"] for part in parts if "functionCall" in part] == [{"name": "look", "args": {"mrn": "12"}}]
    assert answers[-1]["candidates"][0]["finishReason"] == "STOP" and answers[-1]["usageMetadata"]["totalTokenCount"] == 10
    assert translator.content_type == ("text/event-stream" if verb.endswith("sse") else "application/json")


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"googleSearch": {}}]},
        {"cachedContent": "cachedContents/1"},
        {"generationConfig": {"candidateCount": 2}},
        {"generationConfig": {"responseModalities": ["IMAGE"]}},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}]},
    ],
)
def test_gemini_calls_that_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable):
        asked(Api.GEMINI, OPENAI, GEMINI | more, f"{PATH}:generateContent")


# All of them


@pytest.mark.parametrize(
    ("api", "body", "path"),
    [
        (Api.OPENAI_CHAT, {"messages": [], "stream": True}, ""),
        (Api.OPENAI_COMPLETIONS, {"prompt": "x", "stream": True}, ""),
        (Api.OPENAI_RESPONSES, {"input": "x", "stream": True}, ""),
        (Api.ANTHROPIC_MESSAGES, {"messages": [], "stream": True}, ""),
        (Api.OLLAMA_CHAT, {"messages": []}, ""),
        (Api.GEMINI, {"contents": []}, f"{PATH}:streamGenerateContent"),
    ],
)
def test_a_stream_that_fails_later_says_so(api: Api, body: dict[str, Any], path: str) -> None:
    translator = asked(api, OPENAI, {"model": "gpt-5", **body}, path)
    begun = b'data: {"choices": [{"delta": {"content": "half"}, "text": "half"}]}\n\n'
    said = translator.feed(begun) + translator.fail("it is gone")
    assert b"half" in said and b"it is gone" in said and b"[DONE]" not in said
    if api is Api.GEMINI:
        assert json.loads(said)[-1]["error"]["message"] == "it is gone"


def test_an_answer_has_the_room_that_is_left_and_no_more() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 32000}
    for api, local, key in ((Api.OPENAI_CHAT, OPENAI, None), (Api.ANTHROPIC_MESSAGES, OLLAMA, "options")):
        made = json.loads(asked(api, local, body, room=500).outgoing.body)
        assert (made[key]["num_predict"] if key else made["max_tokens"]) == 500


def test_every_api_is_translated_or_refused_with_a_reason() -> None:
    translated = {api for api in Api if api not in REFUSED}
    assert translated == {
        *(Api.OPENAI_CHAT, Api.OPENAI_COMPLETIONS, Api.OPENAI_RESPONSES, Api.OPENAI_EMBEDDINGS, Api.ANTHROPIC_MESSAGES, Api.GEMINI),
        *(Api.OLLAMA_CHAT, Api.OLLAMA_GENERATE, Api.OLLAMA_EMBED, Api.BEDROCK_CONVERSE, Api.BEDROCK_INVOKE),
    }


_WORDS = """model messages role content type text tools function tool_calls input prompt contents parts stream choices delta message usage
finish_reason done arguments name error data embedding tool_choice format"""
KEYS = st.sampled_from(_WORDS.split())
SCALARS = st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "assistant", "text", "x", "function", "tool", "stop"])
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([api for api in Api if api not in REFUSED]), st.sampled_from([OPENAI, OLLAMA]), st.dictionaries(KEYS, JSON, max_size=5)
)
def test_no_call_of_another_form_is_more_than_untranslatable(api: Api, local: Local, body: dict[str, Any]) -> None:
    try:
        asked(api, local, body, f"{PATH}:generateContent")
    except Untranslatable as problem:
        assert str(problem)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([api for api in Api if api not in REFUSED]),
    st.sampled_from([OPENAI, OLLAMA]),
    st.booleans(),
    st.lists(st.dictionaries(KEYS, JSON, max_size=5), min_size=1, max_size=3),
)
def test_no_answer_of_another_form_is_more_than_a_failure(api: Api, local: Local, stream: bool, said: list[dict[str, Any]]) -> None:
    body = {"model": "m", "messages": [], "input": "x", "contents": [], "stream": stream}
    body = {key: value for key, value in body.items() if key in ("model", "stream", _TEXT_OF.get(api, "messages"))}
    body |= {"prompt": "x"} if api in (Api.OPENAI_COMPLETIONS, Api.OLLAMA_GENERATE) else {}
    body |= {"anthropic_version": "x"} if api is Api.BEDROCK_INVOKE else {}
    path = f"{PATH}:streamGenerateContent" if stream else f"{PATH}:generateContent"
    if api in _BEDROCK:
        del body["model"], body["stream"]
        path = f"/model/m/{_BEDROCK[api][stream]}"
    translator = asked(api, local, body, path)
    lead = b"data: " if stream and local is OPENAI else b""
    try:
        answered(translator, b"".join(lead + json.dumps(each).encode() + b"\n\n" for each in said), 50)
    except LocalFailure as problem:
        assert str(problem)


_BEDROCK = {
    Api.BEDROCK_CONVERSE: ("converse", "converse-stream"),
    Api.BEDROCK_INVOKE: ("invoke", "invoke-with-response-stream"),
}
_TEXT_OF = {Api.OPENAI_RESPONSES: "input", Api.OPENAI_EMBEDDINGS: "input", Api.OLLAMA_EMBED: "input", Api.GEMINI: "contents"}
_TEXT_OF |= {Api.OPENAI_COMPLETIONS: "", Api.OLLAMA_GENERATE: ""}


def test_the_page_has_each_reason_for_which_an_api_is_refused() -> None:
    page = (Path(__file__).parents[3] / "docs/inference-apis.md").read_text()
    assert not [why for why in REFUSED.values() if f"| {why} |" not in page]
