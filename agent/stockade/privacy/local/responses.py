"""OpenAI's responses, asked of a chat: items instead of messages, and an answer that is told piece by piece and then whole again.

Nothing is kept here between two calls, as with `store: false`: what refers to an earlier answer refers to the provider, and is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from stockade.privacy.local.form import Ended, Event, Said, ToolCall, Untranslatable, fresh, leave_out, objects, packed, plain
from stockade.privacy.local.told import Gathered, named

Json = dict[str, Any]

_KNOWN = (
    *("model", "input", "instructions", "stream", "stream_options", "temperature", "top_p", "max_output_tokens", "tools", "tool_choice"),
    *("parallel_tool_calls", "text", "reasoning", "include", "store", "truncation", "metadata", "user", "service_tier", "prompt_cache_key"),
    *("safety_identifier", "prompt_cache_retention"),
)
_TEXTS = ("text", "input_text", "output_text")


def from_responses(body: Json) -> Json:
    """The common form of a call of the Responses API. Raises Untranslatable."""
    if body.get("previous_response_id") or body.get("conversation") or body.get("background"):
        raise Untranslatable("it refers to what only the provider has kept")
    if any(not str(each).startswith("reasoning.") for each in body.get("include") or []):
        raise Untranslatable("`include` asks for what only the provider has")
    leave_out(body, *_KNOWN)
    instructions = body.get("instructions")
    messages: list[Json] = [{"role": "system", "content": plain(instructions, "instructions", _TEXTS)}] if instructions else []
    asked = body.get("input") or ""
    messages += [{"role": "user", "content": asked}] if isinstance(asked, str) else _messages(objects(asked, "input"))
    chat: Json = {"messages": messages, "stream": bool(body.get("stream"))}
    for theirs, ours in (("max_output_tokens", "max_tokens"), *((key, key) for key in ("temperature", "top_p", "parallel_tool_calls"))):
        if body.get(theirs) is not None:
            chat[ours] = body[theirs]
    if tools := body.get("tools"):
        chat["tools"] = [_tool(tool) for tool in objects(tools, "tools")]
    if choice := body.get("tool_choice"):
        chat["tool_choice"] = choice if isinstance(choice, str) else _choice(choice)
    match (body.get("text") or {}).get("format"):
        case {"type": "json_schema", **schema}:
            chat["response_format"] = {"type": "json_schema", "json_schema": schema}
        case {"type": "json_object"}:
            chat["response_format"] = {"type": "json_object"}
    return chat


def _messages(items: list[Json]) -> Iterator[Json]:
    calls: list[Json] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
            calls.append({"id": item.get("call_id"), "type": "function", "function": function})
            continue
        if calls:
            yield {"role": "assistant", "content": None, "tool_calls": calls}
            calls = []
        match kind:
            case "message":
                role = {"developer": "system"}.get(item.get("role", ""), item.get("role"))
                yield {"role": role, "content": plain(item.get("content", ""), "content", (*_TEXTS, "refusal"))}
            case "function_call_output":
                content = plain(item.get("output", ""), "output", _TEXTS)
                yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
            case "reasoning":
                pass  # the provider's own
            case _:
                raise Untranslatable("an item that is no message, function call or its output")
    if calls:
        yield {"role": "assistant", "content": None, "tool_calls": calls}


def _tool(tool: Json) -> Json:
    if tool.get("type") != "function":
        raise Untranslatable("a tool that runs at the provider")
    function = {"name": tool.get("name"), "description": tool.get("description") or "", "parameters": tool.get("parameters") or {}}
    return {"type": "function", "function": function}


def _choice(choice: Json) -> Json:
    if choice.get("type") != "function":
        raise Untranslatable("`tool_choice` names a tool that runs at the provider")
    return {"type": "function", "function": {"name": choice.get("name")}}


class _Answer:
    """The response as an object, at any time of it."""

    def __init__(self, model: str) -> None:
        self.all, self.ids = Gathered(), dict[int, str]()
        self.text_id = fresh("msg_")
        self._head = {"id": fresh("resp_"), "object": "response", "created_at": int(time.time()), "model": model}

    def call_id(self, index: int) -> str:
        return self.ids.setdefault(index, fresh("fc_"))

    def text_item(self, status: str = "completed") -> Json:
        content = [] if status == "in_progress" else [{"type": "output_text", "text": self.all.text, "annotations": [], "logprobs": []}]
        return {"id": self.text_id, "type": "message", "role": "assistant", "status": status, "content": content}

    def call_item(self, index: int, status: str = "completed") -> Json:
        id_, name, arguments = self.all.calls[index]
        item = {"id": self.call_id(index), "type": "function_call", "call_id": id_, "name": name, "status": status}
        return item | {"arguments": "" if status == "in_progress" else arguments or "{}"}

    def whole(self, ended: Ended | None, failure: str = "") -> Json:
        output = [self.text_item()] if self.all.text and ended else []
        output += [self.call_item(index) for index in self.all.calls] if ended else []
        status = "failed" if failure else "in_progress" if ended is None else "incomplete" if ended.stop == "length" else "completed"
        made: Json = {**self._head, "status": status, "output": output, "error": None, "incomplete_details": None}
        if failure:
            made["error"] = {"code": "server_error", "message": failure}
        if status == "incomplete":
            made["incomplete_details"] = {"reason": "max_output_tokens"}
        made |= {"instructions": None, "metadata": {}, "parallel_tool_calls": True, "previous_response_id": None, "store": False}
        made |= {"temperature": None, "top_p": None, "tool_choice": "auto", "tools": [], "truncation": "disabled"}
        made |= {"text": {"format": {"type": "text"}}, "usage": None if ended is None else _usage(ended)}
        return made


class ResponsesWhole:
    content_type = "application/json"

    def __init__(self, model: str) -> None:
        self._answer = _Answer(model)

    def event(self, event: Event) -> Iterator[bytes]:
        self._answer.all.take(event)
        if isinstance(event, Ended):
            yield packed(self._answer.whole(event)).encode()

    def failure(self, why: str) -> bytes:
        return packed({"error": {"message": why, "type": "server_error", "param": None, "code": "privacy"}}).encode()


class ResponsesStream:
    """Each item is added, told in pieces, and done; the response is created, in progress, and completed with all of it."""

    content_type = "text/event-stream"

    def __init__(self, model: str) -> None:
        self._answer = _Answer(model)
        self._number, self._begun = 0, False
        self._place = -1
        self._open: str | int | None = None

    def event(self, event: Event) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            yield self._say("response.created", response=self._answer.whole(None))
            yield self._say("response.in_progress", response=self._answer.whole(None))
        self._answer.all.take(event)
        match event:
            case Said(text):
                yield from self._turn("text")
                place = {"item_id": self._answer.text_id, "content_index": 0}
                yield self._say("response.output_text.delta", output_index=self._place, delta=text, logprobs=[], **place)
            case ToolCall(index, _, arguments):
                yield from self._turn(index)
                if arguments:
                    item = {"item_id": self._answer.call_id(index), "delta": arguments}
                    yield self._say("response.function_call_arguments.delta", output_index=self._place, **item)
            case Ended():
                yield from self._close()
                whole = self._answer.whole(event)
                yield self._say(f"response.{whole['status']}", response=whole)

    def failure(self, why: str) -> bytes:
        return self._say("response.failed", response=self._answer.whole(None, why))

    def _turn(self, to: str | int) -> Iterator[bytes]:
        if self._open == to:
            return
        yield from self._close()
        self._place, self._open = self._place + 1, to
        if isinstance(to, int):
            yield self._say("response.output_item.added", output_index=self._place, item=self._answer.call_item(to, "in_progress"))
            return
        yield self._say("response.output_item.added", output_index=self._place, item=self._answer.text_item("in_progress"))
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._say("response.content_part.added", **self._part(), part=part)

    def _close(self) -> Iterator[bytes]:
        was, self._open = self._open, None
        if isinstance(was, int):
            item = self._answer.call_item(was)
            said = {"item_id": item["id"], "name": item["name"], "arguments": item["arguments"]}
            yield self._say("response.function_call_arguments.done", output_index=self._place, **said)
            yield self._say("response.output_item.done", output_index=self._place, item=item)
        elif was is not None:
            item = self._answer.text_item()
            yield self._say("response.output_text.done", **self._part(), text=self._answer.all.text, logprobs=[])
            yield self._say("response.content_part.done", **self._part(), part=item["content"][0])
            yield self._say("response.output_item.done", output_index=self._place, item=item)

    def _part(self) -> Json:
        return {"output_index": self._place, "item_id": self._answer.text_id, "content_index": 0}

    def _say(self, kind: str, **fields: Any) -> bytes:
        said = named(kind, {"sequence_number": self._number, **fields})
        self._number += 1
        return said


def _usage(ended: Ended) -> Json:
    prompt, answer = ended.prompt_tokens, ended.answer_tokens
    details = {"input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    return {"input_tokens": prompt, "output_tokens": answer, "total_tokens": prompt + answer, **details}
