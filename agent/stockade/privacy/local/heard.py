"""Answers of the local server, whole or in pieces, as events. A stream without its last word is an error, never a short answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stockade.privacy.local.form import Ended, Event, LocalFailure, Said, Stop, ToolCall, packed, read

Json = dict[str, Any]

MOST_LINE = 8 << 20
WHOLE = 32 << 20  # octets of an answer in one piece
_STOPS: dict[str, Stop] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}


class Lines:
    """Lines of bytes that come in pieces. Raises LocalFailure for one without end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MOST_LINE:
            raise LocalFailure("a line of the stream has no end")
        return (line.rstrip(b"\r") for line in whole)

    def end(self) -> list[bytes]:
        rest, self._rest = self._rest, b""
        return [rest] if rest.strip() else []


class OpenAi:
    """chat/completions: server-sent events, or one object. The end is told once usage is known, which comes after the stop."""

    def __init__(self, stream: bool) -> None:
        self._stream, self._lines, self._whole = stream, Lines(), bytearray()
        self._stop: Stop | None = None
        self._usage, self._called = (0, 0), False

    def feed(self, data: bytes) -> Iterator[Event]:
        if not self._stream:
            self._whole += data
            if len(self._whole) > WHOLE:
                raise LocalFailure("the answer of the local model has no end")
            return
        for line in self._lines.feed(data):
            if line.startswith(b"data:") and (said := line[5:].strip()) != b"[DONE]":
                yield from self._object(parsed(said), "delta")

    def end(self) -> Iterator[Event]:
        if not self._stream:
            yield from self._object(parsed(bytes(self._whole)), "message")
        if self._stop is None:
            raise LocalFailure("the answer ended before it was done")
        stop: Stop = "tool_calls" if self._called and self._stop == "stop" else self._stop  # as some servers say where a tool was demanded
        yield Ended(stop, *self._usage)

    def _object(self, value: Json, key: str) -> Iterator[Event]:
        if "error" in value:
            raise LocalFailure("the local model answered with an error")
        if usage := value.get("usage"):
            self._usage = (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        for choice in (value.get("choices") or [])[:1]:
            said = choice.get(key) or {}
            if text := said.get("content") or choice.get("text"):  # `text`: of a completion
                yield Said(_text(text))
            for number, call in enumerate(said.get("tool_calls") or []):
                function = call.get("function") or {}
                index = call.get("index")
                self._called = True
                place = number if index is None else int(index)
                yield ToolCall(place, function.get("name") or "", _text(function.get("arguments") or ""))
            if reason := choice.get("finish_reason"):
                self._stop = _STOPS.get(reason, "stop")


class Ollama:
    """/api/chat and /api/generate: an object a line, or one."""

    def __init__(self, stream: bool) -> None:
        self._lines = Lines()
        self._calls = 0
        self._ended: Ended | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        for line in self._lines.feed(data):
            if line.strip():
                yield from self._object(parsed(line))

    def end(self) -> Iterator[Event]:
        for line in self._lines.end():
            yield from self._object(parsed(line))
        if self._ended is None:
            raise LocalFailure("the answer ended before it was done")
        yield self._ended

    def _object(self, value: Json) -> Iterator[Event]:
        if "error" in value:
            raise LocalFailure("the local model answered with an error")
        message = value.get("message") or {}
        if text := message.get("content") or value.get("response"):  # `response`: of /api/generate
            yield Said(_text(text))
        for call in message.get("tool_calls") or []:
            function = call.get("function") or {}
            yield ToolCall(self._calls, function.get("name") or "", packed(function.get("arguments") or {}))
            self._calls += 1
        if value.get("done"):
            stop: Stop = "tool_calls" if self._calls else "length" if value.get("done_reason") == "length" else "stop"
            self._ended = Ended(stop, int(value.get("prompt_eval_count") or 0), int(value.get("eval_count") or 0))


def parsed(data: bytes) -> Json:
    """The object that a part of an answer is. Raises LocalFailure."""
    try:
        return read(data)
    except ValueError:
        raise LocalFailure("the local server does not speak the API it is said to speak") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise LocalFailure("the local server does not speak the API it is said to speak")
    return value
