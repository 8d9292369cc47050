"""Gemini's generateContent, asked of a chat: contents of parts, and answers of candidates, as events or as one array.

The model and whether it streams stand in the path, not in the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stockade.privacy.local.form import Ended, Event, Said, ToolCall, Untranslatable, fresh, leave_out, objects, packed
from stockade.privacy.local.told import object_of

Json = dict[str, Any]

_PATH = re.compile(r"/(?:models|tunedModels|endpoints|deployments)/(?P<model>[^/:]+):(?P<verb>[A-Za-z]+)")
_KNOWN = (
    *("contents", "systemInstruction", "system_instruction", "tools", "toolConfig", "tool_config", "generationConfig", "generation_config"),
    *("safetySettings", "safety_settings", "labels", "model"),
)
_SETTINGS = (
    ("temperature", "temperature"),
    ("topP", "top_p"),
    ("maxOutputTokens", "max_tokens"),
    ("stopSequences", "stop"),
    ("seed", "seed"),
    ("presencePenalty", "presence_penalty"),
    ("frequencyPenalty", "frequency_penalty"),
)
_STOPS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}


def model_of(path: str) -> str:
    found = _PATH.search(path)
    return unquote(found["model"]) if found else ""


def streams(path: str) -> bool:
    found = _PATH.search(path)
    return found is not None and found["verb"].lower().startswith("stream")


def events(path: str) -> bool:
    """Whether a streamed answer is one of server-sent events, and not one array."""
    return "sse" in parse_qs(urlsplit(path).query).get("alt", [])


def from_gemini(body: Json) -> Json:
    """The common form of `generateContent`. Raises Untranslatable."""
    leave_out(body, *_KNOWN)
    messages: list[Json] = []
    if system := body.get("systemInstruction") or body.get("system_instruction"):
        messages.append({"role": "system", "content": _text(system.get("parts") or [])})
    for content in objects(body.get("contents"), "contents"):
        messages += _messages(content, messages)
    chat: Json = {"messages": messages}
    config = body.get("generationConfig") or body.get("generation_config") or {}
    if config.get("candidateCount") not in (None, 1):
        raise Untranslatable("it asks for several answers")
    if config.get("responseModalities") not in (None, ["TEXT"]):
        raise Untranslatable("it asks for more than text")
    chat |= {ours: config[theirs] for theirs, ours in _SETTINGS if config.get(theirs) is not None}
    if config.get("responseMimeType") == "application/json":
        schema = config.get("responseJsonSchema")
        named = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        chat["response_format"] = named if schema else {"type": "json_object"}
    chat |= _tools(body)
    return chat


def _tools(body: Json) -> Json:
    declared: list[Json] = []
    for tool in objects(body.get("tools") or [], "tools"):
        functions = tool.get("functionDeclarations") or tool.get("function_declarations")
        if functions is None or len(tool) != 1:
            raise Untranslatable("a tool that runs at the provider")
        for function in objects(functions, "functionDeclarations"):
            schema = function.get("parametersJsonSchema") or _lowered(function.get("parameters") or {"type": "object", "properties": {}})
            made = {"name": function.get("name"), "description": function.get("description") or "", "parameters": schema}
            declared.append({"type": "function", "function": made})
    if not declared:
        return {}
    config = (body.get("toolConfig") or body.get("tool_config") or {}).get("functionCallingConfig") or {}
    mode, names = str(config.get("mode") or "AUTO").upper(), config.get("allowedFunctionNames")
    if names:
        declared = [each for each in declared if each["function"]["name"] in names]
    return {"tools": declared, "tool_choice": {"ANY": "required", "NONE": "none"}.get(mode, "auto")}


def _lowered(schema: Any) -> Any:
    """Gemini's own schemas write types in capitals."""
    if isinstance(schema, list):
        return [_lowered(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: value.lower() if key == "type" and isinstance(value, str) else _lowered(value) for key, value in schema.items()}


def _messages(content: Json, before: list[Json]) -> list[Json]:
    role = {"model": "assistant", "user": "user", "function": "user", "tool": "user"}.get(content.get("role") or "user")
    if role is None:
        raise Untranslatable("a turn of another role than user and model")
    texts: list[str] = []
    calls: list[Json] = []
    results: list[Json] = []
    for part in objects(content.get("parts") or [], "parts"):
        call, result = part.get("functionCall") or part.get("function_call"), part.get("functionResponse") or part.get("function_response")
        if part.get("thought"):
            continue  # the provider's own
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif call and role == "assistant":
            function = {"name": call.get("name"), "arguments": packed(call.get("args") or {})}
            calls.append({"id": call.get("id") or fresh("call_"), "type": "function", "function": function})
        elif result and role == "user":
            id_ = result.get("id") or _open_call(before, results, result.get("name"))
            results.append({"role": "tool", "tool_call_id": id_, "content": packed(result.get("response") or {})})
        else:
            raise Untranslatable("a part that is no text, function call or its response")
    made: Json = {"role": role, "content": "\n".join(texts) if texts else None}
    return [*results, *([made | ({"tool_calls": calls} if calls else {})] if texts or calls else [])]


def _open_call(before: list[Json], results: list[Json], name: object) -> str:
    """The call of that name that has no result yet: there the name is all that says which one is meant."""
    done = {each.get("tool_call_id") for each in (*before, *results)}
    for message in reversed(before):
        for call in message.get("tool_calls") or []:
            if call["function"]["name"] == name and call["id"] not in done:
                return str(call["id"])
    return "call_0"


def _text(parts: Any) -> str:
    if any(not isinstance(part.get("text"), str) for part in objects(parts, "parts")):
        raise Untranslatable("an instruction with a part that is no text")
    return "\n".join(part["text"] for part in parts)


class GeminiAnswer:
    """as_events: server-sent ones; otherwise a stream is an array that is written as it grows."""

    def __init__(self, model: str, stream: bool, as_events: bool) -> None:
        self.content_type = "text/event-stream" if stream and as_events else "application/json"
        self._head = {"modelVersion": model, "responseId": fresh("")}
        self._stream, self._events, self._first = stream, as_events, True
        self._text, self._calls = "", dict[int, list[str]]()

    def event(self, event: Event) -> Iterator[bytes]:
        match event:
            case Said(text) if self._stream:
                yield self._piece({"candidates": [_candidate([{"text": text}], None)], **self._head})
            case Said(text):
                self._text += text
            case ToolCall(index, name, arguments):
                held = self._calls.setdefault(index, [name, ""])
                held[1] += arguments
            case Ended():
                parts: list[Json] = [{"text": self._text}] if self._text else []
                parts += [{"functionCall": {"name": name, "args": object_of(arguments)}} for name, arguments in self._calls.values()]
                prompt, answer = event.prompt_tokens, event.answer_tokens
                counts = {"promptTokenCount": prompt, "candidatesTokenCount": answer, "totalTokenCount": prompt + answer}
                candidate = _candidate(parts or [{"text": ""}], _STOPS[event.stop])
                yield self._piece({"candidates": [candidate], "usageMetadata": counts, **self._head})
                if self._stream and not self._events:
                    yield b"]"

    def failure(self, why: str) -> bytes:
        error = {"error": {"code": 500, "message": why, "status": "INTERNAL"}}
        return self._piece(error) + (b"]" if self._stream and not self._events else b"")

    def _piece(self, value: Json) -> bytes:
        data = json.dumps(value, ensure_ascii=False).encode()
        if not self._stream:
            return data
        if self._events:
            return b"data: " + data + b"\r\n\r\n"
        before, self._first = b"[" if self._first else b",\r\n", False
        return before + data


def _candidate(parts: list[Json], stop: str | None) -> Json:
    made: Json = {"index": 0, "content": {"role": "model", "parts": parts}}
    return made | ({"finishReason": stop} if stop else {})
