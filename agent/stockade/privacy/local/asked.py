"""Requests: from each client's API into the common form, and from there into Ollama's own.

A key that is not known here is left out only when it tunes the model; one that carries content is Untranslatable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from stockade.privacy.local.form import Untranslatable, packed

Json = dict[str, Any]

_CHAT = frozenset(
    [
        "messages",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "tools",
        "tool_choice",
        "seed",
        "n",
        "response_format",
        "frequency_penalty",
        "presence_penalty",
        "parallel_tool_calls",
    ]
)


def from_openai(body: Json) -> Json:
    """Only what every compatible server knows: what names the user or the account at the provider stays behind."""
    if body.get("n", 1) not in (1, None):
        raise Untranslatable("`n` asks for several answers")
    if "functions" in body or "audio" in body:
        raise Untranslatable("`functions` and `audio` are not spoken locally")
    return {key: value for key, value in body.items() if key in _CHAT}


def from_anthropic(body: Json) -> Json:
    messages: list[Json] = []
    if body.get("system"):
        messages.append({"role": "system", "content": _plain(body["system"], "system")})
    for message in _list(body.get("messages"), "messages"):
        messages.extend(_anthropic_message(message))
    chat: Json = {"messages": messages, "stream": bool(body.get("stream"))}
    for theirs, ours in (("max_tokens", "max_tokens"), ("temperature", "temperature"), ("top_p", "top_p"), ("stop_sequences", "stop")):
        if body.get(theirs) is not None:
            chat[ours] = body[theirs]
    if tools := body.get("tools"):
        chat["tools"] = [_anthropic_tool(tool) for tool in _list(tools, "tools")]
    if choice := body.get("tool_choice"):
        kinds: Json = {"auto": "auto", "any": "required", "none": "none"}
        named = {"type": "function", "function": {"name": choice.get("name")}}
        chat["tool_choice"] = kinds.get(choice.get("type"), named)
    return chat


def _anthropic_tool(tool: Json) -> Json:
    if tool.get("type", "custom") != "custom":
        raise Untranslatable("a tool that runs at the provider")
    function = {"name": tool.get("name"), "description": tool.get("description", ""), "parameters": tool.get("input_schema", {})}
    return {"type": "function", "function": function}


def _anthropic_message(message: Json) -> Iterator[Json]:
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        raise Untranslatable("a message of another role than user and assistant")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    texts: list[str] = []
    calls: list[Json] = []
    for block in _list(content, "content"):
        match block.get("type"):
            case "text":
                texts.append(str(block.get("text", "")))
            case "tool_use" if role == "assistant":
                function = {"name": block.get("name"), "arguments": packed(block.get("input", {}))}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            case "tool_result" if role == "user":
                yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": _plain(block.get("content", ""), "tool_result")}
            case "thinking" | "redacted_thinking":
                pass  # the provider's own, signed for itself
            case _:
                raise Untranslatable("a block that is no text, tool call or tool result")
    if texts or calls:
        yield {"role": role, "content": "\n".join(texts) if texts else None} | ({"tool_calls": calls} if calls else {})


def from_ollama_chat(body: Json) -> Json:
    messages = []
    calls = 0
    waiting: list[str] = []
    for message in _list(body.get("messages"), "messages"):
        if message.get("images"):
            raise Untranslatable("images")
        made: Json = {"role": message.get("role"), "content": message.get("content", "")}
        if message.get("tool_calls"):
            made["tool_calls"] = []
            for call in message["tool_calls"]:
                function = call.get("function", {})
                calls += 1
                waiting.append(f"call_{calls}")
                arguments = packed(function.get("arguments", {}))
                made["tool_calls"].append(
                    {"id": waiting[-1], "type": "function", "function": {"name": function.get("name"), "arguments": arguments}}
                )
        if made["role"] == "tool":
            made["tool_call_id"] = waiting.pop(0) if waiting else "call_0"
        messages.append(made)
    return _ollama_common(body, messages)


def from_ollama_generate(body: Json) -> Json:
    for key in ("images", "suffix", "template", "context", "raw"):
        if body.get(key):
            raise Untranslatable(f"`{key}`")
    messages = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    return _ollama_common(body, [*messages, {"role": "user", "content": body.get("prompt", "")}])


def _ollama_common(body: Json, messages: list[Json]) -> Json:
    chat: Json = {"messages": messages, "stream": body.get("stream", True) is not False}
    options = body.get("options") or {}
    for theirs, ours in (
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("num_predict", "max_tokens"),
        ("stop", "stop"),
        ("seed", "seed"),
    ):
        if theirs in options:
            chat[ours] = options[theirs]
    if body.get("tools"):
        chat["tools"] = body["tools"]
    if body.get("format") == "json":
        chat["response_format"] = {"type": "json_object"}
    elif body.get("format"):
        chat["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": body["format"]}}
    return chat


def to_ollama(chat: Json, context: int) -> Json:
    """Of Ollama's own API: its OpenAI one has no word for the context, and cuts what is longer than its default without saying so."""
    options: Json = {"num_ctx": context}
    for ours, theirs in (("temperature", "temperature"), ("top_p", "top_p"), ("seed", "seed"), ("stop", "stop")):
        if chat.get(ours) is not None:
            options[theirs] = chat[ours]
    if (most := chat.get("max_completion_tokens") or chat.get("max_tokens")) is not None:
        options["num_predict"] = most
    made: Json = {"messages": [_ollama_message(each) for each in chat["messages"]], "stream": bool(chat.get("stream")), "options": options}
    if chat.get("tools") and chat.get("tool_choice") != "none":
        if chat.get("tool_choice", "auto") != "auto":
            raise Untranslatable("`tool_choice` other than auto and none")
        made["tools"] = chat["tools"]
    match chat.get("response_format"):
        case {"type": "json_object"}:
            made["format"] = "json"
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            made["format"] = schema
    return made


def _ollama_message(message: Json) -> Json:
    role = {"developer": "system"}.get(message.get("role", ""), message.get("role"))
    made: Json = {"role": role, "content": _plain(message.get("content") or "", "content")}
    if message.get("tool_calls"):
        made["tool_calls"] = [_ollama_call(call.get("function", {})) for call in message["tool_calls"]]
    return made


def _ollama_call(function: Json) -> Json:
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        raise Untranslatable("a tool call whose arguments are not JSON") from None
    return {"function": {"name": function.get("name"), "arguments": arguments}}


def _plain(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    parts = _list(content, where)
    if any(part.get("type") not in ("text", "input_text") for part in parts):
        raise Untranslatable(f"`{where}` with a part that is no text")
    return "\n".join(str(part.get("text", "")) for part in parts)


def _list(value: Any, where: str) -> list[Json]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Untranslatable(f"`{where}` is no list of objects")
    return value
