"""The form between the APIs: a request as OpenAI's chat completions has it, an answer as a row of events."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from stockade.metrics.figures import Asked

Stop = Literal["stop", "length", "tool_calls", "content_filter"]


class Untranslatable(ValueError):
    """The call asks for what the local server's API cannot say. str(): for the client, without text of the call."""


class LocalFailure(Exception):
    """The local server cannot be had, answered with an error, or not in the API it is said to speak. str(): for client and record, without
    text of the call. outcome: which of these it is.
    """

    def __init__(self, why: str, outcome: Asked = Asked.REFUSED) -> None:
        super().__init__(why)
        self.outcome = outcome

    @property
    def context(self) -> bool:
        """The call is longer than what its model takes."""
        return self.outcome is Asked.CONTEXT


@dataclass(frozen=True, slots=True)
class Said:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A piece of a call: the first of an index has its name. Its id is the client's to hear, and made here."""

    index: int
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event. tokens: of the prompt and of the answer."""

    stop: Stop
    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings, one for each text that was given; the only event of their answer."""

    values: tuple[tuple[float, ...], ...]
    prompt_tokens: int = 0


Event = Said | ToolCall | Ended | Vectors


def read(body: bytes) -> dict[str, Any]:
    """The object that a body is. Raises Untranslatable."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Untranslatable("the body is not JSON") from None
    if not isinstance(value, dict):
        raise Untranslatable("the body is not an object")
    return value


def leave_out(body: dict[str, Any], *known: str) -> None:
    """A setting that the common form has no word for is left out. Raises Untranslatable for anything that could be content."""
    if any(isinstance(value, str | list | dict) and value for key, value in body.items() if key not in known):
        raise Untranslatable("it has a part that a local model has no word for")


def objects(value: Any, where: str) -> list[dict[str, Any]]:
    """A list of objects, or Untranslatable. where: a name of ours, for the error."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Untranslatable(f"`{where}` is no list of objects")
    return value


def plain(content: Any, where: str, kinds: Collection[str] = ("text", "input_text", "output_text")) -> str:
    """Text, or the texts of parts that are nothing else. Raises Untranslatable for other parts."""
    if isinstance(content, str):
        return content
    parts = objects(content, where)
    if any(part.get("type") not in kinds for part in parts):
        raise Untranslatable(f"`{where}` with a part that is no text")
    return "\n".join(str(part.get("text", "")) for part in parts)


def fresh(prefix: str, digits: int = 32) -> str:
    """An id of the form that the client's provider makes. It comes back with the next call, and what has another form is read as a text."""
    return prefix + secrets.token_hex(16)[:digits]


def packed(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
