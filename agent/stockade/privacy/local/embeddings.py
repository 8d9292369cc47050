"""Embeddings: texts in, a vector of numbers for each out. OpenAI's API and both of Ollama's, asked of either."""

from __future__ import annotations

import array
import base64
import sys
from collections.abc import Iterator
from typing import Any

from stockade.privacy.local.asked import OF_THE_PROVIDER
from stockade.privacy.local.form import Event, LocalFailure, Untranslatable, Vectors, leave_out, packed
from stockade.privacy.local.heard import WHOLE, parsed

Json = dict[str, Any]


def from_openai(body: Json) -> Json:
    """The common form: `input`, a list of texts, and perhaps `dimensions`."""
    leave_out(body, "input", "dimensions", "encoding_format", *OF_THE_PROVIDER)
    return _made(body, body.get("input"))


def from_ollama(body: Json) -> Json:
    """Of /api/embed, or of the older /api/embeddings with its one `prompt`."""
    leave_out(body, "model", "input", "prompt", "options", "keep_alive", "truncate", "dimensions")
    return _made(body, body["prompt"] if "prompt" in body else body.get("input"))


def _made(body: Json, texts: Any) -> Json:
    listed = [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, list) or not listed or not all(isinstance(text, str) for text in listed):
        raise Untranslatable("its input is no list of texts")
    return {"input": listed} | ({"dimensions": body["dimensions"]} if body.get("dimensions") else {})


def to_ollama(embedding: Json, context: int) -> Json:
    """truncate: an input that is too long is refused instead of cut."""
    return {**embedding, "truncate": False, "options": {"num_ctx": context}}


class HeardVectors:
    """An answer of /v1/embeddings or /api/embed. count: vectors that are due."""

    def __init__(self, count: int) -> None:
        self._count, self._whole = count, bytearray()

    def feed(self, data: bytes) -> Iterator[Event]:
        self._whole += data
        if len(self._whole) > WHOLE:
            raise LocalFailure("the answer of the local model has no end")
        return iter(())

    def end(self) -> Iterator[Event]:
        value = parsed(bytes(self._whole))
        if "error" in value:
            raise LocalFailure("the local model answered with an error")
        try:
            rows = value["embeddings"] if "embeddings" in value else [each["embedding"] for each in value["data"]]
            vectors = tuple(tuple(float(number) for number in row) for row in rows)
            tokens = int((value.get("usage") or {}).get("prompt_tokens") or value.get("prompt_eval_count") or 0)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LocalFailure("the local server does not speak the API it is said to speak") from None
        if len(vectors) != self._count or not all(vectors):
            raise LocalFailure("the local model did not answer for each of the texts")
        yield Vectors(vectors, tokens)


class OpenAiVectors:
    """base64: as `encoding_format` says, for which OpenAI's own client asks unless told otherwise."""

    content_type = "application/json"

    def __init__(self, model: str, base64: bool) -> None:
        self._model, self._base64 = model, base64

    def event(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Vectors):
            data = [{"object": "embedding", "index": at, "embedding": self._row(row)} for at, row in enumerate(event.values)]
            usage = {"prompt_tokens": event.prompt_tokens, "total_tokens": event.prompt_tokens}
            yield packed({"object": "list", "data": data, "model": self._model, "usage": usage}).encode()

    def _row(self, row: tuple[float, ...]) -> str | tuple[float, ...]:
        if not self._base64:
            return row
        numbers = array.array("f", row)
        if sys.byteorder == "big":
            numbers.byteswap()
        return base64.b64encode(numbers.tobytes()).decode()

    def failure(self, why: str) -> bytes:
        return packed({"error": {"message": why, "type": "server_error", "param": None, "code": "privacy"}}).encode()


class OllamaVectors:
    """one: the older API, with one vector and nothing else."""

    content_type = "application/json"

    def __init__(self, model: str, one: bool) -> None:
        self._model, self._one = model, one

    def event(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Vectors):
            if self._one:
                yield packed({"embedding": event.values[0]}).encode()
                return
            counts = {"total_duration": 0, "load_duration": 0, "prompt_eval_count": event.prompt_tokens}
            yield packed({"model": self._model, "embeddings": event.values, **counts}).encode()

    def failure(self, why: str) -> bytes:
        return packed({"error": why}).encode()
