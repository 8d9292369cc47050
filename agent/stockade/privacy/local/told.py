"""Events as a client's API tells them: one object, or the row of messages that its stream is made of."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Protocol

from stockade.privacy.local.form import Ended, Event, Said, ToolCall, fresh, packed

Json = dict[str, Any]


class Teller(Protocol):
    """The messages of one answer in one API. content_type: of the answer."""

    content_type: str

    def event(self, event: Event) -> Iterator[bytes]:
        """What the client is told of it, which may be nothing yet."""

    def failure(self, why: str) -> bytes:
        """In the middle of a stream, that it will not go on: what the client's library raises as an error of the server."""


class Gathered:
    """Everything said, for an answer that is one object."""

    def __init__(self) -> None:
        self.text = ""
        self.calls: dict[int, list[str]] = {}  # id, name, arguments

    def take(self, event: Event) -> None:
        match event:
            case Said(text):
                self.text += text
            case ToolCall(index, name, arguments):
                held = self.calls.setdefault(index, [fresh("call_"), name, ""])
                held[2] += arguments


class OpenAiWhole:
    content_type = "application/json"

    def __init__(self, model: str) -> None:
        self._model, self._all = model, Gathered()

    def event(self, event: Event) -> Iterator[bytes]:
        self._all.take(event)
        if isinstance(event, Ended):
            message: Json = {"role": "assistant", "content": self._all.text or (None if self._all.calls else "")}
            if self._all.calls:
                message["tool_calls"] = [
                    {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
                    for id_, name, arguments in self._all.calls.values()
                ]
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": event.stop}
            head = {"id": fresh("chatcmpl-"), "object": "chat.completion", "created": int(time.time()), "model": self._model}
            yield packed({**head, "choices": [choice], "usage": usage(event)}).encode()

    def failure(self, why: str) -> bytes:
        return packed(openai_error(why)).encode()


class OpenAiStream:
    """with_usage: whether the client asked for `stream_options.include_usage`."""

    content_type = "text/event-stream"

    def __init__(self, model: str, with_usage: bool) -> None:
        self._head = {"id": fresh("chatcmpl-"), "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._usage, self._begun = with_usage, False
        self._calls: set[int] = set()

    def event(self, event: Event) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            yield self._chunk({"role": "assistant", "content": ""})
        match event:
            case Said(text):
                yield self._chunk({"content": text})
            case ToolCall(index, name, arguments):
                call: Json = {"index": index, "function": {"arguments": arguments}}
                if index not in self._calls:
                    self._calls.add(index)
                    call |= {"id": fresh("call_"), "type": "function", "function": {"name": name, "arguments": arguments}}
                yield self._chunk({"tool_calls": [call]})
            case Ended():
                yield self._chunk({}, event.stop)
                if self._usage:
                    yield sse({**self._head, "choices": [], "usage": usage(event)})
                yield b"data: [DONE]\n\n"

    def failure(self, why: str) -> bytes:
        return sse(openai_error(why))

    def _chunk(self, delta: Json, stop: str | None = None) -> bytes:
        return sse({**self._head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": stop}]})


_ANTHROPIC_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class AnthropicWhole:
    content_type = "application/json"

    def __init__(self, model: str) -> None:
        self._model, self._all = model, Gathered()

    def event(self, event: Event) -> Iterator[bytes]:
        self._all.take(event)
        if isinstance(event, Ended):
            content: list[Json] = [{"type": "text", "text": self._all.text}] if self._all.text else []
            for _, name, arguments in self._all.calls.values():
                content.append({"type": "tool_use", "id": fresh("toolu_01", 22), "name": name, "input": object_of(arguments)})
            usage = {"input_tokens": event.prompt_tokens, "output_tokens": event.answer_tokens}
            head = _anthropic_head(self._model)
            yield packed({**head, "content": content, "stop_reason": _ANTHROPIC_STOPS[event.stop], "usage": usage}).encode()

    def failure(self, why: str) -> bytes:
        return packed({"type": "error", "error": {"type": "api_error", "message": why}}).encode()


class AnthropicStream:
    """message_start, then each block with its start, deltas and stop, then message_delta and message_stop: clients count on it."""

    content_type = "text/event-stream"

    def __init__(self, model: str) -> None:
        self._model, self._begun = model, False
        self._block = -1
        self._open: str | int | None = None  # "text", or the index of the tool call

    def event(self, event: Event) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            message = {**_anthropic_head(self._model), "content": [], "usage": {"input_tokens": 0, "output_tokens": 0}}
            yield named("message_start", {"message": message})
        match event:
            case Said(text):
                yield from self._turn("text", {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            case ToolCall(index, name, arguments):
                yield from self._turn(index, {"type": "tool_use", "id": fresh("toolu_01", 22), "name": name, "input": {}})
                if arguments:
                    yield self._delta({"type": "input_json_delta", "partial_json": arguments})
            case Ended():
                yield from self._close()
                delta = {"stop_reason": _ANTHROPIC_STOPS[event.stop], "stop_sequence": None}
                usage = {"input_tokens": event.prompt_tokens, "output_tokens": event.answer_tokens}
                yield named("message_delta", {"delta": delta, "usage": usage})
                yield named("message_stop", {})

    def failure(self, why: str) -> bytes:
        return named("error", {"error": {"type": "api_error", "message": why}})

    def _turn(self, to: str | int, block: Json) -> Iterator[bytes]:
        if self._open != to:
            yield from self._close()
            self._block, self._open = self._block + 1, to
            yield named("content_block_start", {"index": self._block, "content_block": block})

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            self._open = None
            yield named("content_block_stop", {"index": self._block})

    def _delta(self, delta: Json) -> bytes:
        return named("content_block_delta", {"index": self._block, "delta": delta})


class OllamaAnswer:
    """chat or generate, in lines or whole."""

    def __init__(self, model: str, stream: bool, generate: bool) -> None:
        self.content_type = "application/x-ndjson" if stream else "application/json"
        self._model, self._stream, self._generate, self._all = model, stream, generate, Gathered()

    def event(self, event: Event) -> Iterator[bytes]:
        match event:
            case Said(text) if self._stream:
                yield self._line(text)
            case Ended():
                ended = {"done": True, "done_reason": "length" if event.stop == "length" else "stop"}
                counts = {"prompt_eval_count": event.prompt_tokens, "eval_count": event.answer_tokens}
                yield self._line("" if self._stream else self._all.text, list(self._all.calls.values()), **ended, **counts)
            case _:
                self._all.take(event)

    def failure(self, why: str) -> bytes:
        return packed({"error": why}).encode() + b"\n"

    def _line(self, text: str, calls: list[list[str]] | None = None, **more: Any) -> bytes:
        message: Json = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = [{"function": {"name": name, "arguments": object_of(arguments)}} for _, name, arguments in calls]
        said = {"response": text} if self._generate else {"message": message}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return packed({"model": self._model, "created_at": now, **said, "done": False, **more}).encode() + b"\n"


def _anthropic_head(model: str) -> Json:
    return {"id": fresh("msg_01", 22), "type": "message", "role": "assistant", "model": model, "stop_reason": None, "stop_sequence": None}


def openai_error(why: str) -> Json:
    return {"error": {"message": why, "type": "server_error", "param": None, "code": "privacy"}}


def usage(ended: Ended) -> Json:
    prompt, answer = ended.prompt_tokens, ended.answer_tokens
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def object_of(arguments: str) -> Json:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def sse(value: Json) -> bytes:
    return f"data: {packed(value)}\n\n".encode()


def named(name: str, value: Json) -> bytes:
    return f"event: {name}\ndata: {packed({'type': name, **value})}\n\n".encode()
