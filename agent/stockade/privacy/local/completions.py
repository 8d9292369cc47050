"""OpenAI's completions: a text that goes on, without a chat. Servers of the same API have them, and Ollama has its template left out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from stockade.privacy.local.asked import OF_THE_PROVIDER, demand_one, ollama_options
from stockade.privacy.local.form import Ended, Event, Said, Untranslatable, fresh, leave_out, packed
from stockade.privacy.local.told import Gathered, openai_error, sse, usage

Json = dict[str, Any]

_SETTINGS = ("temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "stream", "stream_options")


def from_completions(body: Json) -> Json:
    """The common form of a completion: its settings as a chat has them, and `prompt`, `suffix`. Raises Untranslatable."""
    demand_one(body)
    leave_out(body, "prompt", "suffix", "logit_bias", *_SETTINGS, *OF_THE_PROVIDER)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Untranslatable("it has several prompts, or none")
    made: Json = {"prompt": prompt, **{key: body[key] for key in _SETTINGS if body.get(key) is not None}}
    made.setdefault("max_tokens", 16)  # as the API has it
    return made | ({"suffix": body["suffix"]} if body.get("suffix") else {})


def to_ollama(completion: Json, context: int) -> Json:
    """raw: no template is put around the text. Raises Untranslatable."""
    if completion.get("suffix"):
        raise Untranslatable("`suffix`")
    settings = ollama_options(completion, context)
    return {"prompt": completion["prompt"], "raw": True, "stream": bool(completion.get("stream")), "options": settings}


class CompletionWhole:
    content_type = "application/json"

    def __init__(self, model: str) -> None:
        self._model, self._all = model, Gathered()

    def event(self, event: Event) -> Iterator[bytes]:
        self._all.take(event)
        if isinstance(event, Ended):
            choice = {"index": 0, "text": self._all.text, "logprobs": None, "finish_reason": _stop(event)}
            yield packed({**_head(self._model), "choices": [choice], "usage": usage(event)}).encode()

    def failure(self, why: str) -> bytes:
        return packed(openai_error(why)).encode()


class CompletionStream:
    content_type = "text/event-stream"

    def __init__(self, model: str, with_usage: bool) -> None:
        self._head, self._usage = _head(model), with_usage

    def event(self, event: Event) -> Iterator[bytes]:
        match event:
            case Said(text):
                yield self._chunk(text, None)
            case Ended():
                yield self._chunk("", _stop(event))
                if self._usage:
                    yield sse({**self._head, "choices": [], "usage": usage(event)})
                yield b"data: [DONE]\n\n"

    def failure(self, why: str) -> bytes:
        return sse(openai_error(why))

    def _chunk(self, text: str, stop: str | None) -> bytes:
        return sse({**self._head, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": stop}]})


def _stop(ended: Ended) -> str:
    return "stop" if ended.stop == "tool_calls" else ended.stop


def _head(model: str) -> Json:
    return {"id": fresh("cmpl-"), "object": "text_completion", "created": int(time.time()), "model": model}
