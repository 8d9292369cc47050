"""Bodies as the providers' own clients send them: each text in them is found, in its role, and can be exchanged.

Those of a name in `plain_` were written after the documentation of the API instead.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.privacy.extract import Api, Call, Role, Unreadable, extract, rewrite
from stockade.privacy.extract.body import SCHEMAS
from stockade.privacy.extract.tree import Step

GOLDEN = Path(__file__).parents[3] / "golden" / "inference"
BODIES: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))}
MARK = "Ada Quill, 4711"

type Place = tuple[str | int, ...]


def read(name: str, body: Any) -> Call:
    return extract(Api(BODIES[name]["api"]), [], json.dumps(body).encode(), BODIES[name]["path"])


def why(api: Api, body: Any) -> str:
    with pytest.raises(Unreadable) as caught:
        extract(api, [], body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value.why


def places(node: Any, at: Place = ()) -> list[Place]:
    """Every value, inner and outer."""
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [at, *(place for key, item in items for place in places(item, (*at, key)))]


def put(node: Any, at: Place, value: Any, key: bool = False) -> Any:
    """A copy with the value there; key: as a further field of the object there."""
    if not at:
        return {**node, value: 1} if key else value
    if isinstance(node, dict):
        return {name: put(item, at[1:], value, key) if name == at[0] else item for name, item in node.items()}
    return [put(item, at[1:], value, key) if index == at[0] else item for index, item in enumerate(node)]


def of(body: Any, at: Place) -> Any:
    for step in at:
        body = body[step]
    return body


def test_every_schema_has_a_body() -> None:
    assert {Api(each["api"]) for each in BODIES.values()} == set(SCHEMAS)


@pytest.mark.parametrize("name", BODIES)
def test_a_text_planted_in_any_place_is_a_piece(name: str) -> None:
    """In the place of any value, and as a key of any object: it is in a piece, or the whole body is not read. None is skipped."""
    body = BODIES[name]["body"]
    seen = 0
    for at in places(body)[1:]:
        for planted in (MARK, [MARK], {"x": [MARK]}, {MARK: "x"}, [{"type": MARK}]):
            try:
                call = read(name, put(body, at, planted))
            except Unreadable:
                continue
            assert any(MARK in piece.text for piece in call.pieces), (at, planted)
            seen += 1
        if isinstance(of(body, at), dict):
            call = read(name, put(body, at, MARK, key=True))
            assert any(MARK in piece.text for piece in call.pieces), at
    assert seen >= 4 * len(places(body)[1:])  # of five: hardly any was refused instead


@pytest.mark.parametrize("name", BODIES)
def test_a_long_number_in_any_place_is_a_piece(name: str) -> None:
    body = BODIES[name]["body"]
    for at in places(body)[1:]:
        try:
            call = read(name, put(body, at, 4155550123))
        except Unreadable:
            continue
        assert any(piece.text == "4155550123" for piece in call.pieces), at


@pytest.mark.parametrize("name", BODIES)
def test_the_same_texts_are_the_same_json(name: str) -> None:
    body = BODIES[name]["body"]
    call = read(name, body)
    data = json.dumps(body, indent=3).encode()
    assert call.pieces
    assert json.loads(rewrite(call, data, {})) == json.loads(rewrite(call, data, dict(enumerate(call.texts)))) == body


@pytest.mark.parametrize("name", BODIES)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_what_is_put_in_is_read_again(name: str, text: str) -> None:
    """Save for keys, which are names that other fields are read by."""
    body = json.dumps(BODIES[name]["body"]).encode()
    call = read(name, BODIES[name]["body"])
    keyed = {
        number for number, piece in enumerate(call.pieces) if piece.at and isinstance(piece.at[-1], int) and not is_item(name, piece.at)
    }
    new = {number: f"<{text}> {number}" for number in range(len(call.pieces)) if number not in keyed}
    made = extract(call.api, [], rewrite(call, body, new), BODIES[name]["path"])
    assert [piece.text for number, piece in enumerate(made.pieces) if number not in keyed] == list(new.values())


def is_item(name: str, at: Place) -> bool:
    node = BODIES[name]["body"]
    for step in at[:-1]:
        node = json.loads(node) if step == Step.JSON else node[step]
    return isinstance(node, list)


@pytest.mark.parametrize(
    ("name", "role", "text"),
    [
        ("openai_chat", Role.SYSTEM, "Answer like a harbour master."),
        ("openai_chat", Role.TOOL_CALL, "Harbour"),
        ("openai_chat", Role.TOOL_RESULT, "Flood at half past four."),
        ("openai_responses", Role.TOOL_RESULT, "Ebb at nine."),
        ("openai_responses", Role.TOOL_CALL, "Pier"),
        ("anthropic_messages", Role.DOCUMENT, "Log of the boat"),
        ("anthropic_messages", Role.ASSISTANT, "I look at the table."),
        ("anthropic_messages", Role.TOOL_DEFINITION, "Where the tide is read"),
        ("ollama_chat", Role.TOOL_RESULT, "Ebb at nine."),
        ("gemini", Role.TOOL_RESULT, "Ebb at nine."),
        ("bedrock_converse", Role.DOCUMENT, "Log of the boat"),
        ("bedrock_invoke_titan", Role.USER, "When is ebb?"),
    ],
)
def test_a_text_is_of_its_role(name: str, role: Role, text: str) -> None:
    assert (text, role) in [(piece.text, piece.role) for piece in read(name, BODIES[name]["body"]).pieces]


@pytest.mark.parametrize(
    ("name", "model", "stream", "tools"),
    [
        ("openai_chat", "gpt-4o-mini", True, ("tide",)),
        ("anthropic_messages", "claude-sonnet-4-20250514", True, ("tide",)),
        ("ollama_chat", "llama3.2", False, ("tide",)),
        ("gemini", "gemini-2.0-flash", True, ("tide",)),
        ("bedrock_converse", "anthropic.claude-3-haiku-20240307-v1:0", True, ("tide",)),
        ("bedrock_invoke_llama", "meta.llama3-8b-instruct-v1:0", False, ()),
    ],
)
def test_model_stream_and_tools(name: str, model: str, stream: bool, tools: tuple[str, ...]) -> None:
    call = read(name, BODIES[name]["body"])
    assert (call.model, call.stream, call.tools) == (model, stream, tools)


def test_ollama_streams_unless_told_not_to() -> None:
    assert extract(Api.OLLAMA_GENERATE, [], b'{"model":"llama3","prompt":"x"}').stream


def chat(part: Any) -> Any:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": [part]}]}


def message(block: Any) -> Any:
    return {"model": "claude-3", "max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}


@pytest.mark.parametrize(
    ("api", "body", "expected"),
    [
        (Api.OPENAI_CHAT, chat({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}), "image"),
        (Api.OPENAI_CHAT, chat({"type": "text", "text": "x", "image_url": "data:image/png;base64,AAAA"}), "image"),
        (Api.OPENAI_CHAT, chat({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}), "audio"),
        (Api.OPENAI_CHAT, chat({"type": "file", "file": {"file_id": "file-abc"}}), "reference"),
        (Api.OPENAI_CHAT, chat({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}), "pdf"),
        (Api.OPENAI_CHAT, {"model": "llama", "messages": [], "prompt_token_ids": [1, 2]}, "tokens"),
        (Api.OPENAI_COMPLETIONS, {"model": "llama", "prompt": [1, 2]}, "tokens"),
        (Api.OPENAI_COMPLETIONS, {"model": "llama", "prompt": ["a", [1, 2]]}, "tokens"),
        (Api.OPENAI_COMPLETIONS, {"model": "llama", "prompt": "x", "prompt_embeds": "AAAA"}, "tokens"),
        (Api.OPENAI_EMBEDDINGS, {"model": "bge", "input": [[1], [2]]}, "tokens"),
        (
            Api.OPENAI_RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x.example"}]}]},
            "image",
        ),
        (
            Api.OPENAI_RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x.example"}]}]},
            "reference",
        ),
        (Api.OPENAI_RESPONSES, {"input": [{"type": "computer_call_output", "call_id": "1", "output": {"image_url": "x"}}]}, "image"),
        (Api.ANTHROPIC_MESSAGES, message({"type": "image", "source": {"type": "url", "url": "https://x.example"}}), "image"),
        (Api.ANTHROPIC_MESSAGES, message({"type": "document", "source": {"type": "file", "file_id": "x"}}), "reference"),
        (
            Api.ANTHROPIC_MESSAGES,
            message({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}),
            "pdf",
        ),
        (
            Api.ANTHROPIC_MESSAGES,
            message({"type": "tool_result", "tool_use_id": "x", "content": [{"type": "image", "source": 1}]}),
            "image",
        ),
        (Api.OLLAMA_CHAT, {"model": "llama", "messages": [{"role": "user", "content": "x", "images": ["AAAA"]}]}, "image"),
        (Api.OLLAMA_GENERATE, {"model": "llama", "prompt": "x", "context": [1]}, "tokens"),
        (Api.OPENAI_CHAT, chat({"type": "new", "url": "https://x.example"}), "reference"),
        (Api.OPENAI_RESPONSES, {"prompt": {"id": "x"}}, "reference"),
        (Api.OPENAI_RESPONSES, {"tools": [{"type": "code_interpreter", "container": {"file_ids": ["x"]}}]}, "reference"),
        (Api.OPENAI_RESPONSES, {"tools": [{"type": "file_search", "vector_store_ids": ["x"]}]}, "reference"),
        (Api.ANTHROPIC_MESSAGES, message({"type": "new", "url": "https://x.example"}), "reference"),
        (Api.GEMINI, {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}]}, "image"),
        (Api.GEMINI, {"contents": {"parts": {"inline_data": {"mime_type": "video/mp4", "data": "AAAA"}}}}, "video"),
        (Api.GEMINI, {"contents": [{"parts": [{"fileData": {"fileUri": "gs://x"}}]}]}, "reference"),
        (Api.GEMINI, {"contents": [], "cached_content": "cachedContents/x"}, "reference"),
        (Api.BEDROCK_CONVERSE, {"messages": [{"role": "user", "content": [{"image": {"format": "png"}}]}]}, "image"),
        (Api.BEDROCK_INVOKE, {"input": "x"}, "unknown_schema"),
        (Api.OPENAI_FILES, {"x": "y"}, "unknown_schema"),
        (Api.OPENAI_CHAT, [1], "unknown_schema"),
        (Api.OPENAI_CHAT, b"model=x", "not_json"),
    ],
)
def test_what_nobody_can_read_is_told(api: Api, body: Any, expected: str) -> None:
    assert why(api, body) == expected


def test_a_document_in_base64_is_read_and_exchanged() -> None:
    source = {"type": "base64", "media_type": "text/plain", "data": "SGVsbG8gQWRh"}
    body = json.dumps(message({"type": "document", "source": source})).encode()
    call = extract(Api.ANTHROPIC_MESSAGES, [], body)
    (number,) = (number for number, piece in enumerate(call.pieces) if piece.text == "Hello Ada")
    made = extract(Api.ANTHROPIC_MESSAGES, [], rewrite(call, body, {number: "Hello [P]"}))
    assert made.texts[number] == "Hello [P]" and made.pieces[number].role is Role.DOCUMENT


def test_a_packed_body_is_rewritten_plain_with_its_numbers_as_they_were() -> None:
    plain = b'{"model":"gpt-4o","temperature":1.10,"messages":[{"role":"user","content":"Ada"}],"seed":18446744073709551617}'
    packed = gzip.compress(plain)
    call = extract(Api.OPENAI_CHAT, [("Content-Encoding", "gzip")], packed)
    assert rewrite(call, packed, {call.texts.index("Ada"): "[P]"}) == plain.replace(b"Ada", b"[P]")


def test_another_body_than_the_one_that_was_read_is_not_rewritten() -> None:
    call = extract(Api.OPENAI_CHAT, [], b'{"messages":[{"role":"user","content":"Ada"}]}')
    with pytest.raises(Unreadable):
        rewrite(call, b'{"messages":[]}', {0: "[P]"})


MODELS = (
    *(
        "gpt-4o-mini",
        "gpt-4o-2024-08-06",
        "gpt-3.5-turbo-0125",
        "o3-mini",
        "gpt-oss:20b",
        "text-embedding-3-small",
        "omni-moderation-latest",
    ),
    *("claude-3-5-sonnet-20241022", "claude-sonnet-4-5", "us.anthropic.claude-3-haiku-20240307-v1:0", "gemini-2.5-pro"),
    *("llama3.2:3b-instruct-q4_K_M", "meta-llama/Llama-3.1-8B-Instruct", "qwen2.5-coder:7b", "nomic-embed-text", "deepseek-r1:14b"),
)
NO_MODELS = (
    *("john-smith", "John Smith", "mrn-4711", "gpt-4o john", "llama-john-smith", "e-smith", "gpt-415-555-0123", "gpt-4155550123"),
    *("llama/123-45-6789", "gpt-19800101"),
)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_no_text(name: str) -> None:
    assert extract(Api.OPENAI_CHAT, [], json.dumps({"model": name, "messages": []}).encode()).texts == []


@pytest.mark.parametrize("name", NO_MODELS)
def test_another_name_where_a_model_stands_is_a_piece(name: str) -> None:
    assert name in extract(Api.OPENAI_CHAT, [], json.dumps({"model": name, "messages": []}).encode()).texts


@pytest.mark.parametrize("name", ["123-45-6789", "JohnSm1th", "call_JohnSmithHasDiabetesTypeT", "John Smith", "call_JohnSm1th"])
def test_another_text_where_an_identity_stands_is_a_piece(name: str) -> None:
    body = {"messages": [{"role": "tool", "tool_call_id": name}]}
    assert extract(Api.OPENAI_CHAT, [], json.dumps(body).encode()).texts == [name]


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (Api.GEMINI, {"safetySettings": [{"category": "HARM_CATEGORY_ADA_QUILL"}]}),
        (Api.GEMINI_EMBED, {"taskType": "ADA_QUILL"}),
        (Api.OPENAI_RESPONSES, {"include": ["ada.quill"]}),
        (Api.ANTHROPIC_MESSAGES, {"anthropic_beta": ["ada-quill-2024-01-01"]}),
        (
            Api.ANTHROPIC_MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "redacted_thinking", "data": "QWRhIFF1aWxsIGlzIGlsbC4="}]}]},
        ),
    ],
)
def test_a_name_in_the_guise_of_a_setting_is_a_piece(api: Api, body: Any) -> None:
    (text,) = extract(api, [], json.dumps(body).encode()).texts
    assert "quill" in text.lower()


@pytest.mark.parametrize("sealed", ["AdaQuillIsIllAndInCare==", base64.b64encode(b"\x00\xffAda Quill is ill").decode()])
def test_what_can_be_read_in_the_guise_of_a_seal_is_a_piece(sealed: str) -> None:
    body = message({"type": "thinking", "thinking": "", "signature": sealed})
    (text,) = extract(Api.ANTHROPIC_MESSAGES, [], json.dumps(body).encode()).texts
    assert "Quill" in text


def test_a_seal_is_no_text() -> None:
    body = message({"type": "thinking", "thinking": "", "signature": base64.b64encode(bytes(range(128, 256))).decode()})
    assert extract(Api.ANTHROPIC_MESSAGES, [], json.dumps(body).encode()).texts == []


@pytest.mark.parametrize(
    "text",
    [
        "data:text/patient John Carmichael MRN 84739201 has HIV,hello",
        "data:text/x-john-carmichael,hello",
        "data:;name=John Carmichael,hello",
        "data:text/plain;John Carmichael;base64,aGVsbG8=",
        "data:text/plain;charset=utf-8;x=John,hello",
        "Data: John Carmichael, MRN 84739201",
    ],
)
def test_a_text_whose_head_may_say_more_than_how_it_is_read_is_read_whole(text: str) -> None:
    assert extract(Api.OPENAI_CHAT, [], json.dumps(chat(text)).encode()).texts == [text]


@pytest.mark.parametrize("head", ["data:,", "data:text/plain,", "DATA:Text/Markdown;charset=UTF-8,", "data:application/json;base64,"])
def test_a_data_url_of_a_known_head_is_read_as_what_it_holds(head: str) -> None:
    data = base64.b64encode(b"John Carmichael").decode() if head.endswith(";base64,") else "John%20Carmichael"
    assert extract(Api.OPENAI_CHAT, [], json.dumps(chat(head + data)).encode()).texts == ["John Carmichael"]


@pytest.mark.parametrize(
    ("head", "why"), [("image/png;name=x", "image"), ("application/john", "binary"), ("text/plain;charset=x", "encoding")]
)
def test_a_data_url_of_what_is_no_text_is_unreadable_whatever_else_it_says(head: str, why: str) -> None:
    with pytest.raises(Unreadable) as refused:
        extract(Api.OPENAI_CHAT, [], json.dumps(chat(f"data:{head};base64,AAAA")).encode())
    assert refused.value.why == why


@pytest.mark.parametrize(("lists", "refused"), [(4, False), (5, True)])
def test_numbers_in_short_rows_are_counted_over_the_whole_body(lists: int, refused: bool) -> None:
    row = [ord(letter) for letter in "John Carmichael"]
    body = chat("x") | {f"x{number}": row for number in range(lists - 1)} | {"extra": {"deep": [["a", *row[:7]], row[7:]]}}
    if refused:
        with pytest.raises(Unreadable) as problem:
            extract(Api.OPENAI_CHAT, [], json.dumps(body).encode())
        assert problem.value.why == "tokens"
    else:
        assert extract(Api.OPENAI_CHAT, [], json.dumps(body).encode()).pieces


def test_numbers_of_arguments_settings_and_citations_are_not_counted() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "plot", "arguments": json.dumps({"rows": [list(range(99))]})}}
    body = {"model": "gpt-4o", "messages": [{"role": "assistant", "tool_calls": [call]}], "max_tokens": 5}
    assert extract(Api.OPENAI_CHAT, [], json.dumps(body).encode()).tools == ("plot",)
    cited = [{"type": "char_location", "document_index": 0, "start_char_index": each, "end_char_index": each + 9} for each in range(99)]
    text = {"role": "assistant", "content": [{"type": "text", "text": "so", "citations": cited}]}
    assert extract(Api.ANTHROPIC_MESSAGES, [], json.dumps({"model": "claude", "messages": [text]}).encode()).pieces
