"""The form between the APIs: a request as OpenAI's chat completions has it, an answer as a row of events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Stop = Literal["stop", "length", "tool_calls", "content_filter"]


class Untranslatable(ValueError):
    """The call asks for what the local server's API cannot say. str(): for the client, without text of the call."""


@dataclass(frozen=True, slots=True)
class Said:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A piece of a call: the first of an index has its id and name."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event. tokens: of the prompt and of the answer."""

    stop: Stop
    prompt_tokens: int = 0
    answer_tokens: int = 0


Event = Said | ToolCall | Ended


def read(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Untranslatable("the body is not JSON") from None
    if not isinstance(value, dict):
        raise Untranslatable("the body is not an object")
    return value


def packed(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
