"""Bedrock's converse, and Anthropic's messages within its invoke, asked of a chat; answers whole, or as its binary stream of events.

The model and whether it streams stand in the path, not in the body.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from stockade.privacy.extract.eventstream import framed
from stockade.privacy.local import asked
from stockade.privacy.local.form import Ended, Event, Said, ToolCall, Untranslatable, fresh, leave_out, objects, packed
from stockade.privacy.local.told import AnthropicStream, Gathered, object_of

Json = dict[str, Any]

STREAM = "application/vnd.amazon.eventstream"
_PATH = re.compile(r"/model/(?P<model>.+)/(?P<verb>converse|converse-stream|invoke|invoke-with-response-stream)(?:\?|\Z)")
_CONVERSE = (
    *("system", "messages", "toolConfig", "inferenceConfig", "additionalModelRequestFields", "requestMetadata", "schemaVersion"),
    *("performanceConfig", "serviceTier", "additionalModelResponseFieldPaths"),
)
_SETTINGS = (("maxTokens", "max_tokens"), ("temperature", "temperature"), ("topP", "top_p"), ("stopSequences", "stop"))
_READABLE = ("txt", "md", "csv", "html")
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "content_filtered"}


def model_of(path: str) -> str:
    found = _PATH.search(path)
    return unquote(found["model"]) if found else ""


def streams(path: str) -> bool:
    found = _PATH.search(path)
    return found is not None and found["verb"].endswith("stream")


def from_invoke(body: Json) -> Json:
    """The common form of `invoke`, whose body has the form of the model's maker: of Anthropic's. Raises Untranslatable."""
    if "anthropic_version" not in body or "messages" not in body:
        raise Untranslatable("of Bedrock's invoke only the form of Anthropic's messages is translated: use converse")
    return asked.from_anthropic({key: value for key, value in body.items() if key not in ("anthropic_version", "anthropic_beta")})


def from_converse(body: Json) -> Json:
    """The common form of `converse`. Raises Untranslatable."""
    leave_out(body, *_CONVERSE)
    leave_out(body.get("additionalModelRequestFields") or {}, "thinking", "reasoning_config", "anthropic_beta")
    messages: list[Json] = []
    if system := body.get("system"):
        messages.append(
            {"role": "system", "content": "\n".join(_text(block) for block in objects(system, "system") if not _skipped(block))}
        )
    for message in objects(body.get("messages"), "messages"):
        messages.extend(_message(message))
    chat: Json = {"messages": messages}
    config = body.get("inferenceConfig") or {}
    chat |= {ours: config[theirs] for theirs, ours in _SETTINGS if config.get(theirs) is not None}
    return chat | _tools(body.get("toolConfig") or {})


def _tools(config: Json) -> Json:
    made: list[Json] = []
    for tool in objects(config.get("tools") or [], "tools"):
        if "cachePoint" in tool:
            continue
        if set(tool) != {"toolSpec"}:
            raise Untranslatable("a tool that runs at the provider")
        spec = tool["toolSpec"]
        function = {"name": spec.get("name"), "description": spec.get("description") or "", "parameters": spec["inputSchema"]["json"]}
        made.append({"type": "function", "function": function})
    if not made:
        return {}
    choice = config.get("toolChoice") or {"auto": {}}
    if "tool" in choice:
        return {"tools": made, "tool_choice": {"type": "function", "function": {"name": choice["tool"].get("name")}}}
    return {"tools": made, "tool_choice": "required" if "any" in choice else "auto"}


def _message(message: Json) -> Iterator[Json]:
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise Untranslatable("a message of another role than user and assistant")
    texts: list[str] = []
    calls: list[Json] = []
    for block in objects(message.get("content"), "content"):
        if _skipped(block):
            continue
        if "toolUse" in block and role == "assistant":
            use = block["toolUse"]
            function = {"name": use.get("name"), "arguments": packed(use.get("input") or {})}
            calls.append({"id": use.get("toolUseId"), "type": "function", "function": function})
        elif "toolResult" in block and role == "user":
            result = block["toolResult"]
            said = "\n".join(_result(each) for each in objects(result.get("content") or [], "toolResult"))
            yield {"role": "tool", "tool_call_id": result.get("toolUseId"), "content": said}
        else:
            texts.append(_text(block))
    if texts or calls:
        yield {"role": role, "content": "\n".join(texts) if texts else None} | ({"tool_calls": calls} if calls else {})


def _skipped(block: Json) -> bool:
    """What is the provider's own: its thoughts, signed for itself, and its cache."""
    return "reasoningContent" in block or "cachePoint" in block


def _result(block: Json) -> str:
    return packed(block["json"]) if "json" in block else _text(block)


def _text(block: Json) -> str:
    match block:
        case {"text": str(text)} | {"guardContent": {"text": {"text": str(text)}}}:
            return text
        case {"document": {"source": {"text": str(text)}}}:
            return text
        case {"document": {"source": {"content": list(parts)}}}:
            return "\n".join(_text(part) for part in objects(parts, "document"))
        case {"document": {"format": form, "source": {"bytes": str(data)}}} if form in _READABLE:
            try:
                return base64.b64decode(data, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise Untranslatable("a document that is no text") from None
    raise Untranslatable("a block that is no text, tool call or tool result")


class ConverseWhole:
    content_type = "application/json"

    def __init__(self) -> None:
        self._all = Gathered()

    def event(self, event: Event) -> Iterator[bytes]:
        self._all.take(event)
        if isinstance(event, Ended):
            content: list[Json] = [{"text": self._all.text}] if self._all.text or not self._all.calls else []
            for _, name, arguments in self._all.calls.values():
                content.append({"toolUse": {"toolUseId": fresh("tooluse_", 22), "name": name, "input": object_of(arguments)}})
            message = {"message": {"role": "assistant", "content": content}}
            yield packed({"output": message, "stopReason": _STOPS[event.stop], **_metadata(event)}).encode()

    def failure(self, why: str) -> bytes:
        return packed({"message": why}).encode()


class ConverseStream:
    """messageStart, each block with its start (of a tool only), deltas and stop, then messageStop and metadata."""

    content_type = STREAM

    def __init__(self) -> None:
        self._begun = False
        self._block = -1
        self._open: str | int | None = None  # "text", or the index of the tool call

    def event(self, event: Event) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            yield _event("messageStart", {"role": "assistant"})
        match event:
            case Said(text):
                yield from self._turn("text", None)
                yield self._delta({"text": text})
            case ToolCall(index, name, arguments):
                yield from self._turn(index, name)
                if arguments:
                    yield self._delta({"toolUse": {"input": arguments}})
            case Ended():
                yield from self._close()
                yield _event("messageStop", {"stopReason": _STOPS[event.stop]})
                yield _event("metadata", _metadata(event))

    def failure(self, why: str) -> bytes:
        return _failed(why)

    def _turn(self, to: str | int, tool: str | None) -> Iterator[bytes]:
        if self._open != to:
            yield from self._close()
            self._block, self._open = self._block + 1, to
            if tool is not None:
                start = {"toolUse": {"toolUseId": fresh("tooluse_", 22), "name": tool}}
                yield _event("contentBlockStart", {"contentBlockIndex": self._block, "start": start})

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            self._open = None
            yield _event("contentBlockStop", {"contentBlockIndex": self._block})

    def _delta(self, delta: Json) -> bytes:
        return _event("contentBlockDelta", {"contentBlockIndex": self._block, "delta": delta})


class InvokeStream:
    """The events of Anthropic's stream, each packed into a chunk."""

    content_type = STREAM

    def __init__(self, model: str) -> None:
        self._inner = AnthropicStream(model)

    def event(self, event: Event) -> Iterator[bytes]:
        for piece in self._inner.event(event):
            data = piece.partition(b"data: ")[2].strip()
            yield _event("chunk", {"bytes": base64.b64encode(data).decode()})

    def failure(self, why: str) -> bytes:
        return _failed(why)


def _metadata(ended: Ended) -> Json:
    prompt, answer = ended.prompt_tokens, ended.answer_tokens
    return {"usage": {"inputTokens": prompt, "outputTokens": answer, "totalTokens": prompt + answer}, "metrics": {"latencyMs": 0}}


def _event(kind: str, value: Json) -> bytes:
    return _frame({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, value)


def _failed(why: str) -> bytes:
    kind = {":exception-type": "internalServerException", ":content-type": "application/json", ":message-type": "exception"}
    return _frame(kind, {"message": why})


def _frame(headers: dict[str, str], value: Json) -> bytes:
    """Each header: its name with a length of one octet, 7 for a string, its value with a length of two."""
    written = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + len(said).to_bytes(2, "big") + said.encode() for name, said in headers.items()
    )
    return framed(written, packed(value).encode("utf-8", "replace"))
