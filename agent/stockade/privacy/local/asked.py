"""Requests: from each client's API into the common form, and from there into Ollama's own.

A key that is not known here is left out only when it tunes the model; one that carries content is Untranslatable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from stockade.privacy.local.form import Untranslatable, leave_out, objects, packed, plain

Json = dict[str, Any]

_CHAT = (
    *("messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "stop", "tools", "tool_choice", "seed"),
    *("response_format", "frequency_penalty", "presence_penalty", "parallel_tool_calls"),
)
OF_THE_PROVIDER = (
    *("model", "user", "metadata", "service_tier", "store", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
)
"""What names the model, the user or the account at the provider, and how it keeps its books: none of it is for the local server."""
_TUNES = ("reasoning_effort", "verbosity", "logit_bias", "prediction", "max_completion_tokens", "n", "logprobs", "top_logprobs")


def from_openai(body: Json) -> Json:
    """Only what every compatible server knows. Raises Untranslatable."""
    demand_one(body)
    if body.get("modalities", ["text"]) != ["text"]:
        raise Untranslatable("`modalities` asks for more than text")
    leave_out(body, *_CHAT, *OF_THE_PROVIDER, *_TUNES, "modalities")
    chat = {key: value for key, value in body.items() if key in _CHAT and value is not None}
    if (most := body.get("max_completion_tokens")) is not None:
        chat["max_tokens"] = most  # the older name is known everywhere
    chat["messages"] = [_openai_message(message) for message in objects(chat.get("messages"), "messages")]
    if any(tool.get("type") != "function" for tool in objects(chat.get("tools", []), "tools")):
        raise Untranslatable("a tool that is no function")
    return chat


_SAID_BESIDE = ("refusal", "annotations", "reasoning", "reasoning_content", "reasoning_details", "thinking", "cache_control")


def _openai_message(message: Json) -> Json:
    """As every server knows it. A conversation may have begun with the provider: what an answer of its has beside the text stays behind."""
    if message.get("role") == "function" or message.get("function_call") or message.get("audio"):
        raise Untranslatable("a message with a function of the old form, or with audio")
    leave_out(message, "role", "content", "name", "tool_calls", "tool_call_id", *_SAID_BESIDE)
    role = "system" if message.get("role") == "developer" else message.get("role")
    content = message.get("content")
    if isinstance(content, list) and all(part.get("type") in ("text", "refusal") for part in objects(content, "content")):
        content = [{"type": "text", "text": part.get("text") or part.get("refusal") or ""} for part in content]
    made: Json = {"role": role, "content": content if content is not None else message.get("refusal")}
    made |= {key: message[key] for key in ("name", "tool_call_id") if message.get(key) is not None}
    if calls := message.get("tool_calls"):
        if any(call.get("type", "function") != "function" for call in objects(calls, "tool_calls")):
            raise Untranslatable("a call of a tool that is no function")
        made["tool_calls"] = [{"id": call.get("id"), "type": "function", "function": call["function"]} for call in calls]
    return made


def demand_one(body: Json) -> None:
    """Of OpenAI's APIs: one answer, and no more than it. Raises Untranslatable."""
    if any(body.get(key) not in (1, None) for key in ("n", "best_of")):
        raise Untranslatable("it asks for several answers")
    if body.get("logprobs") not in (None, False, 0) or body.get("echo"):
        raise Untranslatable("it asks for probabilities or for an echo of the prompt")


_ANTHROPIC = (
    *("model", "messages", "system", "stream", "max_tokens", "temperature", "top_p", "stop_sequences", "tools", "tool_choice"),
    *("output_config", "thinking", "metadata", "service_tier", "context_management", "cache_control", "betas", "inference_geo"),
)


def from_anthropic(body: Json) -> Json:
    """The common form of a call of Anthropic's messages. Raises Untranslatable."""
    leave_out(body, *_ANTHROPIC)
    messages: list[Json] = []
    if body.get("system"):
        messages.append({"role": "system", "content": plain(body["system"], "system")})
    for message in objects(body.get("messages"), "messages"):
        messages.extend(_anthropic_message(message))
    chat: Json = {"messages": messages, "stream": bool(body.get("stream"))}
    for theirs, ours in (("max_tokens", "max_tokens"), ("temperature", "temperature"), ("top_p", "top_p"), ("stop_sequences", "stop")):
        if body.get(theirs) is not None:
            chat[ours] = body[theirs]
    if tools := body.get("tools"):
        chat["tools"] = [_anthropic_tool(tool) for tool in objects(tools, "tools")]
    if choice := body.get("tool_choice"):
        kinds: Json = {"auto": "auto", "any": "required", "none": "none"}
        named = {"type": "function", "function": {"name": choice.get("name")}}
        chat["tool_choice"] = kinds.get(choice.get("type"), named)
        if choice.get("disable_parallel_tool_use"):
            chat["parallel_tool_calls"] = False
    if form := (body.get("output_config") or {}).get("format"):
        chat["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": form.get("schema", {})}}
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
    for block in objects(content, "content"):
        match block.get("type"):
            case "text":
                texts.append(str(block.get("text", "")))
            case "tool_use" if role == "assistant":
                function = {"name": block.get("name"), "arguments": packed(block.get("input", {}))}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            case "tool_result" if role == "user":
                yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": plain(block.get("content", ""), "tool_result")}
            case "document" if (source := block.get("source") or {}).get("type") == "text":
                texts.append(str(source.get("data", "")))
            case "thinking" | "redacted_thinking":
                pass  # the provider's own, signed for itself
            case _:
                raise Untranslatable("a block that is no text, tool call or tool result")
    if texts or calls:
        yield {"role": role, "content": "\n".join(texts) if texts else None} | ({"tool_calls": calls} if calls else {})


_OLLAMA = (
    "model",
    "messages",
    "prompt",
    "system",
    "stream",
    "options",
    "tools",
    "format",
    "keep_alive",
    "think",
    "logprobs",
    "top_logprobs",
)


def from_ollama_chat(body: Json) -> Json:
    """The common form of Ollama's chat, whose tool calls have no ids: they are numbered. Raises Untranslatable."""
    messages = []
    calls = 0
    waiting: list[str] = []
    for message in objects(body.get("messages"), "messages"):
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
    """The common form of a prompt to Ollama with the template of its model. Raises Untranslatable."""
    for key in ("images", "suffix", "template", "context", "raw"):
        if body.get(key):
            raise Untranslatable(f"`{key}`")
    messages = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    return _ollama_common(body, [*messages, {"role": "user", "content": body.get("prompt", "")}])


def _ollama_common(body: Json, messages: list[Json]) -> Json:
    leave_out(body, *_OLLAMA)
    if body.get("logprobs"):
        raise Untranslatable("it asks for probabilities")
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


def ollama_options(asked: Json, context: int) -> Json:
    """Of Ollama's own API: its OpenAI one has no word for the context, and cuts what is longer than its default without saying so."""
    options: Json = {"num_ctx": context}
    options |= {name: asked[name] for name in ("temperature", "top_p", "seed") if asked.get(name) is not None}
    if asked.get("max_tokens") is not None:
        options["num_predict"] = asked["max_tokens"]
    if (stop := asked.get("stop")) is not None:
        options["stop"] = [stop] if isinstance(stop, str) else stop  # it takes no other form than a list
    return options


def to_ollama(chat: Json, context: int) -> Json:
    """A server that knows `truncate` and `shift` is told to cut nothing; an older one passes them over, and has its context as a bound."""
    messages, whole = _ollama_messages(chat["messages"]), {"truncate": False, "shift": False}
    made: Json = {"messages": messages, "stream": bool(chat.get("stream")), "options": ollama_options(chat, context), **whole}
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


def _ollama_messages(messages: list[Json]) -> list[Json]:
    """A result there names its tool instead of its call."""
    names: dict[str, str] = {}
    made = []
    for message in messages:
        role = {"developer": "system"}.get(message.get("role", ""), message.get("role"))
        one: Json = {"role": role, "content": plain(message.get("content") or "", "content")}
        if calls := message.get("tool_calls"):
            one["tool_calls"] = [_ollama_call(call.get("function", {})) for call in calls]
            names |= {str(call.get("id")): str(call.get("function", {}).get("name")) for call in calls}
        if role == "tool" and (name := names.get(str(message.get("tool_call_id")))):
            one["tool_name"] = name
        made.append(one)
    return made


def _ollama_call(function: Json) -> Json:
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        raise Untranslatable("a tool call whose arguments are not JSON") from None
    return {"function": {"name": function.get("name"), "arguments": arguments}}
