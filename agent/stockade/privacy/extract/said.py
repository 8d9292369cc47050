"""What one message of a streamed answer says, by API: pieces of texts that go on, whole texts, what is over, tools called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from stockade.privacy.extract.call import Api, At
from stockade.privacy.extract.tree import Json, Number, exchange

type Channel = tuple[str | int, ...]

# Strings that are no text of the answer. A surrogate could stand in them by chance.
OPAQUE = frozenset(
    {
        "id",
        "type",
        "role",
        "model",
        "object",
        "created",
        "created_at",
        "createdAt",
        "signature",
        "encrypted_content",
        "data",
        "finish_reason",
        "stop_reason",
        "stopReason",
        "finishReason",
        "status",
        "call_id",
        "item_id",
        "tool_use_id",
        "toolUseId",
        "tool_call_id",
        "system_fingerprint",
        "service_tier",
        "done_reason",
        "responseId",
        "modelVersion",
        "thoughtSignature",
        "mimeType",
        "media_type",
        "name",
    }
)
_WITHIN_JSON = frozenset({"arguments", "partial_json"})


@dataclass(frozen=True, slots=True)
class Text:
    at: At
    within_json: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    channel: Channel
    at: At
    form: Json  # a message that carries nothing but a piece of this channel,
    slot: At  # and where
    within_json: bool = False

    def tail(self, rest: str) -> Json:
        return exchange(self.form, {self.slot: rest})


@dataclass(slots=True)
class Said:
    """over: the beginnings of the channels that end with this message; () is the beginning of all."""

    deltas: list[Delta] = field(default_factory=list)
    wholes: list[Text] = field(default_factory=list)
    over: list[Channel] = field(default_factory=list)
    repeats: bool = False  # its whole texts were said before, or come from the request


def said(api: Api, message: Json) -> Said:
    found = Said()
    if isinstance(message, dict):
        _READERS.get(api, _whole)(message, found)
    return found


def strings(node: Json, at: At = ()) -> Iterator[Text]:
    """Every string below that may be text. Names, identifiers and what is encrypted are none."""
    waiting: list[tuple[Json, At, bool]] = [(node, at, False)]
    while waiting:
        one, place, within = waiting.pop()
        if isinstance(one, str):
            yield Text(place, within)
        elif isinstance(one, list):
            waiting += [(below, (*place, index), False) for index, below in reversed(list(enumerate(one)))]
        elif isinstance(one, dict):
            inside = place and place[-1] in ("input", "args", "arguments")  # the caller's own keys
            for key, below in reversed(list(one.items())):
                if inside or key not in OPAQUE or not isinstance(below, str):
                    waiting.append((below, (*place, key), key in _WITHIN_JSON and isinstance(below, str)))


def tools(node: Json) -> Iterator[str]:
    """Names of tool calls: a name beside arguments, an input, or args."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += reversed(one)
        elif isinstance(one, dict):
            name = one.get("name")
            if isinstance(name, str) and name and (one.keys() & {"arguments", "input", "args", "toolUseId"}):
                yield name
            waiting += reversed(list(one.values()))


def _whole(message: dict[str, Json], found: Said) -> None:
    found.wholes += strings(message)


def _list(node: Json, key: str) -> list[Json]:
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, list) else []


def _index(node: Json, otherwise: int, key: str = "index") -> int:
    value = node.get(key) if isinstance(node, dict) else None
    return int(value.spelling) if isinstance(value, Number) and value.spelling.isdecimal() and len(value.spelling) < 9 else otherwise


def _chat(message: dict[str, Json], found: Said) -> None:
    """OpenAI's chat.completion.chunk and text_completion. A tail says no role again: clients would join it to the first."""
    head = {key: value for key, value in message.items() if key not in ("choices", "usage")}
    for place, choice in enumerate(_list(message, "choices")):
        if not isinstance(choice, dict):
            continue
        index = _index(choice, place)
        for channel, at, inner, slot in _pieces_of(choice):
            form: Json = {**head, "choices": [{"index": Number(str(index)), **inner, "finish_reason": None}]}
            within_json = at[-1] == "arguments"
            found.deltas.append(Delta((index, *channel), ("choices", place, *at), form, ("choices", 0, *slot), within_json))
        if isinstance(choice.get("message"), dict):
            found.wholes += strings(choice["message"], ("choices", place, "message"))
        if choice.get("finish_reason"):
            found.over.append((index,))


def _pieces_of(choice: dict[str, Json]) -> Iterator[tuple[Channel, At, dict[str, Json], At]]:
    """Of each text in a choice: which it is, where it is, a choice with nothing else in it, and where it is there."""
    if isinstance(choice.get("text"), str):
        yield ("text",), ("text",), {"text": ""}, ("text",)
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return
    for key in ("content", "reasoning_content", "reasoning", "refusal"):
        if isinstance(delta.get(key), str):
            yield (key,), ("delta", key), {"delta": {key: ""}}, ("delta", key)
    function = delta.get("function_call")
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        at: At = ("delta", "function_call", "arguments")
        yield ("function_call",), at, {"delta": {"function_call": {"arguments": ""}}}, at
    for place, call in enumerate(_list(delta, "tool_calls")):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            number = _index(call, place)
            inner: Json = {"tool_calls": [{"index": Number(str(number)), "function": {"arguments": ""}}]}
            slot: At = ("delta", "tool_calls", 0, "function", "arguments")
            yield ("tool", number), ("delta", "tool_calls", place, "function", "arguments"), {"delta": inner}, slot


def _anthropic(message: dict[str, Json], found: Said) -> None:
    kind, index, delta = message.get("type"), _index(message, 0), message.get("delta")
    if kind == "content_block_delta" and isinstance(delta, dict):
        for key in ("text", "thinking", "partial_json"):
            if isinstance(delta.get(key), str):
                found.deltas.append(Delta((index, key), ("delta", key), message, ("delta", key), within_json=key == "partial_json"))
        if delta.get("type") == "signature_delta":
            found.over.append((index,))  # the thinking is over: clients end it here
    elif kind == "content_block_start":
        found.wholes += strings(message.get("content_block"), ("content_block",))
    elif kind == "content_block_stop":
        found.over.append((index,))
    elif kind in ("message_delta", "message_stop", "error"):
        found.over.append(())
    elif isinstance(message.get("completion"), str):
        found.deltas.append(Delta(("completion",), ("completion",), {**message, "stop_reason": None}, ("completion",)))
        if message.get("stop_reason"):
            found.over.append(())


def _ollama(message: dict[str, Json], found: Said) -> None:
    inner = message.get("message")
    for key in ("response", "thinking"):
        if isinstance(message.get(key), str):
            empty: dict[str, Json] = {other: "" for other in ("response", "thinking") if other in message}
            form: Json = {**message, **empty}
            found.deltas.append(Delta((key,), (key,), form, (key,)))
    if isinstance(inner, dict):
        for key in ("content", "thinking"):
            if isinstance(inner.get(key), str):
                only: Json = {"role": inner.get("role", "assistant"), "content": "", key: ""}
                found.deltas.append(Delta(("message", key), ("message", key), {**message, "message": only}, ("message", key)))
        found.wholes += strings(inner.get("tool_calls"), ("message", "tool_calls"))
    if message.get("done") is True or "error" in message:
        found.over.append(())


_RESPONSES_DELTA = re.compile(r"(response\.[a-z_.]+)\.(delta|done)")


def _responses(message: dict[str, Json], found: Said) -> None:
    """OpenAI's responses: pieces, then the same text whole, then the whole item, then the whole answer."""
    kind = message.get("type")
    match = _RESPONSES_DELTA.fullmatch(kind) if isinstance(kind, str) else None
    output, part = _index(message, 0, "output_index"), _index(message, _index(message, 0, "summary_index"), "content_index")
    if match and match[2] == "delta":
        if isinstance(message.get("delta"), str):
            within_json = match[1].endswith("_arguments")
            found.deltas.append(Delta((output, part, match[1]), ("delta",), message, ("delta",), within_json))
        return
    found.repeats = True
    found.wholes += strings(message)
    if match and match[1] != "response.output_item":
        found.over += [(output, part)]
    elif match:
        found.over.append((output,))
    elif kind in ("response.completed", "response.failed", "response.incomplete", "error"):
        found.over.append(())


def _gemini(message: dict[str, Json], found: Said) -> None:
    head = {key: value for key, value in message.items() if key not in ("candidates", "usageMetadata")}
    for place, candidate in enumerate(_list(message, "candidates")):
        if not isinstance(candidate, dict):
            continue
        index, content = _index(candidate, place), candidate.get("content")
        for number, part in enumerate(_list(content, "parts")):
            at: At = ("candidates", place, "content", "parts", number)
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                thought = part.get("thought") is True
                only: dict[str, Json] = {"text": "", "thought": True} if thought else {"text": ""}
                one: Json = {"index": Number(str(index)), "content": {"role": "model", "parts": [only]}}
                form: Json = {**head, "candidates": [one]}
                slot: At = ("candidates", 0, "content", "parts", 0, "text")
                found.deltas.append(Delta((index, "thought" if thought else "text"), (*at, "text"), form, slot))
            else:
                found.wholes += strings(part, at)
        if candidate.get("finishReason"):
            found.over.append((index,))


def _code_assist(message: dict[str, Json], found: Said) -> None:
    """The same below one key more."""
    inner, says = message.get("response"), Said()
    if not isinstance(inner, dict):
        return
    _gemini(inner, says)
    for each in says.deltas:
        form: Json = {**message, "response": each.form}
        found.deltas.append(replace(each, at=("response", *each.at), form=form, slot=("response", *each.slot)))
    found.wholes += [replace(each, at=("response", *each.at)) for each in says.wholes]
    found.over += says.over


def _converse(message: dict[str, Json], found: Said, at: At = (), outer: str = "") -> None:
    """Bedrock's converse-stream. The kind of a message is in its headers, and its keys tell it as well."""
    index, delta = _index(message, 0, "contentBlockIndex"), message.get("delta")

    def whole(inner: Json) -> Json:
        body: Json = {**message, "delta": inner}
        return {outer: body} if outer else body

    if isinstance(delta, dict):
        places: tuple[At, ...] = (("text",), ("toolUse", "input"), ("reasoningContent", "text"))
        for place in places:
            inner: Json = delta
            for step in place:
                inner = inner.get(str(step)) if isinstance(inner, dict) else None
            if isinstance(inner, str):
                slot: At = (*at, "delta", *place)
                found.deltas.append(Delta((index, *place), slot, whole(delta), slot, within_json=place[0] == "toolUse"))
        reasoning = delta.get("reasoningContent")
        if isinstance(reasoning, dict) and "signature" in reasoning:
            found.over.append((index,))
    elif "contentBlockIndex" in message:
        found.over += [] if "start" in message else [(index,)]
    elif "role" not in message:
        found.over.append(())  # messageStop, metadata, an exception


def _invoke(message: dict[str, Json], found: Said) -> None:
    """What the model itself says, in Bedrock's frame: Anthropic's events, Nova's as in converse, choices, or one text a message."""
    wrapped = [key for key in ("contentBlockDelta", "contentBlockStop", "messageStop", "metadata") if isinstance(message.get(key), dict)]
    if "type" in message or "completion" in message:
        _anthropic(message, found)
    elif wrapped:
        inner = message[wrapped[0]]
        assert isinstance(inner, dict)
        _converse(inner, found, (wrapped[0],), wrapped[0])
    elif isinstance(message.get("choices"), list):
        _chat(message, found)
    else:
        for key, reason in (("generation", "stop_reason"), ("outputText", "completionReason")):
            if isinstance(message.get(key), str):
                found.deltas.append(Delta((key,), (key,), {**message, reason: None}, (key,)))
                found.over += [()] if message.get(reason) else []


_READERS: dict[Api, Callable[[dict[str, Json], Said], None]] = {
    Api.OPENAI_CHAT: _chat,
    Api.OPENAI_COMPLETIONS: _chat,
    Api.OPENAI_RESPONSES: _responses,
    Api.ANTHROPIC_MESSAGES: _anthropic,
    Api.ANTHROPIC_COMPLETE: _anthropic,
    Api.GEMINI: _gemini,
    Api.GEMINI_CODE_ASSIST: _code_assist,
    Api.BEDROCK_INVOKE: _invoke,
    Api.BEDROCK_CONVERSE: _converse,
    Api.OLLAMA_CHAT: _ollama,
    Api.OLLAMA_GENERATE: _ollama,
}
