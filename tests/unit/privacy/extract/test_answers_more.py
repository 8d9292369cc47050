"""Answers of OpenAI's responses and of Gemini, streamed as events and as one array, with the placeholder cut at every position."""

from __future__ import annotations

import json
from typing import Any

from stockade.privacy.extract import Api

from .test_answers import SSE, VALUE, messages, passed, reader, sse, vault


def responses(first: str, second: str) -> list[Any]:
    whole = first + second
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "find", "status": "completed"}
    arguments = f'{{"n":"{whole}"}}'
    text = {"type": "output_text", "text": f"I am {whole}", "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    head = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "parallel_tool_calls": True,
        "tools": [],
        "tool_choice": "auto",
    }
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**head, "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **at, "part": {"type": "output_text", "text": "", "annotations": []}},
        {"type": "response.output_text.delta", **at, "delta": f"I am {first}"},
        {"type": "response.output_text.delta", **at, "delta": second},
        {"type": "response.output_text.done", **at, "text": f"I am {whole}"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.output_item.added", "output_index": 1, "item": {**call, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 1, "delta": f'{{"n":"{first}'},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 1, "delta": f'{second}"}}'},
        {"type": "response.function_call_arguments.done", "item_id": "fc_1", "output_index": 1, "arguments": arguments},
        {"type": "response.output_item.done", "output_index": 1, "item": {**call, "arguments": arguments}},
        {"type": "response.completed", "response": {**head, "output": [item, {**call, "arguments": arguments}]}},
    ]
    return [{**each, "sequence_number": number} for number, each in enumerate(told)]


def test_responses_at_every_cut_of_the_placeholder() -> None:
    of, mark = vault()
    inside = json.dumps({"n": VALUE}, ensure_ascii=False, separators=(",", ":"))
    for cut in range(len(mark) + 1):
        read = reader(of, Api.OPENAI_RESPONSES, SSE)
        made = messages(passed(read, sse(*responses(mark[:cut], mark[cut:]))))
        kinds = [each["type"] for each in made]
        assert "".join(each["delta"] for each in made if each["type"] == "response.output_text.delta") == f"I am {VALUE}"
        assert "".join(each["delta"] for each in made if each["type"] == "response.function_call_arguments.delta") == inside
        assert made[kinds.index("response.output_text.done")]["text"] == f"I am {VALUE}"
        output = made[-1]["response"]["output"]
        assert output[0]["content"][0]["text"] == f"I am {VALUE}" and output[1]["arguments"] == inside
        assert read.tools == ["find"] and read.text == f'I am {mark}{{"n":"{mark}"}}'
    made = messages(passed(reader(of, Api.OPENAI_RESPONSES, SSE), sse(*responses(mark[:5], ""))))
    kinds = [each["type"] for each in made]
    text = "".join(each["delta"] for each in made[: kinds.index("response.output_text.done")] if "delta" in each)
    assert text == f"I am {mark[:5]}"


def gemini(first: str, second: str) -> list[dict[str, Any]]:
    def part(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, "index": 0, **more}], "modelVersion": "gemini"}

    call = {"functionCall": {"name": "find", "args": {"name": first + second}}}
    return [
        part({"text": f"ü {first}", "thought": True}),
        part({"text": second, "thought": True}),
        part({"text": f'"{{ I am \\ {first}'}),
        part({"text": second}, call),
        part({"text": ""}, finishReason="STOP"),
    ]


def said_by_gemini(told: list[Any]) -> tuple[str, str, list[Any]]:
    parts = [part for each in told for candidate in each["candidates"] for part in candidate["content"]["parts"]]
    return (
        "".join(part["text"] for part in parts if part.get("thought")),
        "".join(part["text"] for part in parts if "text" in part and not part.get("thought")),
        [part["functionCall"]["args"] for part in parts if "functionCall" in part],
    )


def array(told: list[dict[str, Any]]) -> bytes:
    return ("[" + "\n,\r\n".join(json.dumps(each, indent=1, ensure_ascii=False) for each in told) + "\n]\n").encode()


def test_gemini_as_events_and_as_an_array() -> None:
    of, mark = vault()
    for cut in range(len(mark) + 1):
        told = gemini(mark[:cut], mark[cut:])
        want = (f"ü {VALUE}", f'"{{ I am \\ {VALUE}', [{"name": VALUE}])
        read = reader(of, Api.GEMINI, SSE)
        assert said_by_gemini(messages(passed(read, sse(*told)))) == want and read.tools == ["find"]
        read = reader(of, Api.GEMINI, "application/json; charset=UTF-8")
        assert said_by_gemini(json.loads(passed(read, array(told)))) == want and read.unreadable is None


def test_a_gemini_array_keeps_its_form() -> None:
    of, mark = vault()
    for last in (5, 4, 3, 1):  # ended by the finish, or by the bracket alone
        told = gemini(mark[:6], "")[:last]
        made = json.loads(passed(reader(of, Api.GEMINI, "application/json"), array(told)))
        assert said_by_gemini(made) == said_by_gemini(told)
    told = gemini(mark[:6], mark[6:])
    whole = passed(reader(of, Api.GEMINI, "application/json"), array(told))
    stream = array(told)
    for cut in range(len(stream)):
        assert passed(reader(of, Api.GEMINI, "application/json"), stream[:cut], stream[cut:]) == whole
    stream = array(gemini("so", "me"))
    assert passed(reader(of, Api.GEMINI, "application/json"), *(stream[at : at + 1] for at in range(len(stream)))) == stream
    one = json.dumps(gemini(mark, "")[2]).encode()
    assert said_by_gemini([json.loads(passed(reader(of, Api.GEMINI, "application/json"), one))])[1] == f'"{{ I am \\ {VALUE}'


def test_gemini_as_its_command_line_hears_it() -> None:
    of, mark = vault()
    for cut in range(len(mark) + 1):
        told = [{"response": each, "traceId": "t"} for each in gemini(mark[:cut], mark[cut:])]
        for kind, said in ((SSE, sse(*told)), ("application/json", array(told))):
            read = reader(of, Api.GEMINI_CODE_ASSIST, kind)
            made = passed(read, said)
            heard = messages(made) if kind == SSE else json.loads(made)
            assert said_by_gemini([each["response"] for each in heard]) == (f"ü {VALUE}", f'"{{ I am \\ {VALUE}', [{"name": VALUE}])
            assert read.tools == ["find"] and read.unreadable is None
