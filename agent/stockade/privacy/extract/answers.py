"""An answer of a model while it passes: values put back into its texts, and what it said kept for the record.

What did not change passes as it came, octet for octet. What cannot be read passes unchanged from there on, and `unreadable` says why: an
answer comes from outside, so nothing leaves the sandbox with it, and a placeholder that stays is no value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from stockade.privacy.extract.call import Api, At, Unreadable
from stockade.privacy.extract.elements import Elements
from stockade.privacy.extract.eventstream import Messages
from stockade.privacy.extract.said import Channel, Delta, Text, said, strings, tools
from stockade.privacy.extract.sse import Events, Frame, Frames, Lines
from stockade.privacy.extract.tree import Json, dump, exchange, parse_bytes

WHOLE = 32 << 20  # octets of an answer that is one JSON text
KEPT = 4 << 20  # characters of an answer that are kept
_TOOLS = 64


class Restore(Protocol):
    def feed(self, piece: str, /) -> str: ...

    def flush(self) -> str: ...


class AnswerReader:
    """content_type, encoding: as the answer's head says. restore: makes one for each text of the answer, given whether it is inside JSON.

    text: what the answer says, as it was received (bounded), in the order of arrival. tools: names of its tool calls, each once.
    unreadable: one of Unreadable.WHY, or None.
    """

    def __init__(self, api: Api, content_type: str, restore: Callable[[bool], Restore], *, encoding: str = "") -> None:
        self._api, self._make = api, restore
        self.tools: list[str] = []
        self.unreadable: str | None = None
        self._digest, self._texts, self._room = hashlib.sha256(), list[str](), KEPT
        self._going: dict[Channel, tuple[Restore, Delta, Frame]] = {}
        self._body = bytearray()
        self._frames = _frames(content_type)
        if encoding.strip().lower() not in ("", "identity"):
            self.unreadable = "encoding"
        elif self._frames is None and not _is_json(content_type):
            self.unreadable = "unknown_body"

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def sha256(self) -> str:
        """Of the whole text as received, also beyond what is kept."""
        return self._digest.hexdigest()

    def feed(self, data: bytes) -> bytes:
        if self.unreadable:
            return data
        if self._frames is not None:
            return self._read(self._frames, self._frames.feed(data))
        self._body += data
        if self._api in (Api.GEMINI, Api.GEMINI_CODE_ASSIST) and self._body.lstrip(b" \t\r\n").startswith(b"["):
            self._frames = Elements()
            return self._read(self._frames, self._frames.feed(self._rest()))
        return self._give_up("too_large", self._rest()) if len(self._body) > WHOLE else b""

    def end(self) -> bytes:
        """What was held, with the end of the answer. Nothing may be fed after it."""
        if self._frames is not None:
            made = b"" if self.unreadable else self._read(self._frames, self._frames.end())
            return made + self._flush(())
        body = self._rest()
        if self.unreadable or not body.strip():
            return body
        try:
            return self._whole(body)
        except Unreadable as error:
            return self._give_up(error.why, body)

    def _rest(self) -> bytes:
        body = bytes(self._body)
        self._body.clear()
        return body

    def _read(self, frames: Frames, found: Iterator[Frame]) -> bytes:
        made = bytearray()
        raw = b""
        try:
            for frame in found:
                raw = frame.raw
                made += self._message(frame)
                raw = b""
        except Unreadable as error:
            made += self._give_up(error.why, raw + frames.rest())
        return bytes(made)

    def _give_up(self, why: str, rest: bytes) -> bytes:
        self.unreadable = why
        return self._flush(()) + rest

    def _whole(self, body: bytes) -> bytes:
        root = parse_bytes(body)
        self._name(root)
        places = dict(self._restored(root, strings(root)))
        return dump(exchange(root, places)).encode() if places else body

    def _message(self, frame: Frame) -> bytes:
        data = frame.data
        if data is None:
            return (frame.after(self._flush(())) if frame.closes else b"") + frame.raw
        message = parse_bytes(data)
        self._name(message)
        says = said(self._api, message)
        places = dict(self._restored(message, says.wholes, keep=not says.repeats))
        last: dict[Channel, At] = {}
        for delta in says.deltas:
            text = _at(message, delta.at)
            self._keep(text)
            restore = self._going[delta.channel][0] if delta.channel in self._going else self._make(delta.within_json)
            self._going[delta.channel] = restore, delta, frame
            places[delta.at] = restore.feed(text)
            last[delta.channel] = delta.at
        for channel, at in last.items():
            if any(channel[: len(over)] == over for over in says.over):
                places[at] += self._going.pop(channel)[0].flush()
        before = b"".join(map(self._flush, says.over))
        changed = {at: text for at, text in places.items() if text != _at(message, at)}
        return frame.after(before) + (frame.write(dump(exchange(message, changed)).encode()) if changed else frame.raw)

    def _flush(self, over: Channel) -> bytes:
        """What is still held of these channels, each in a message of its own after the form of its last one."""
        made = bytearray()
        for channel in [each for each in self._going if each[: len(over)] == over]:
            restore, delta, frame = self._going.pop(channel)
            if rest := restore.flush():
                made += frame.another(dump(delta.tail(rest)).encode())
        return bytes(made)

    def _restored(self, root: Json, texts: Iterable[Text], *, keep: bool = True) -> Iterator[tuple[At, str]]:
        for each in texts:
            text = _at(root, each.at)
            if keep:
                self._keep(text)
            restore = self._make(each.within_json)
            given = restore.feed(text) + restore.flush()
            if given != text:
                yield each.at, given

    def _keep(self, text: str) -> None:
        self._digest.update(text.encode("utf-8", "surrogatepass"))
        if self._room > 0 and text:
            self._texts.append(text[: self._room])
            self._room -= len(text)

    def _name(self, root: Json) -> None:
        for name in tools(root):
            if name not in self.tools and len(self.tools) < _TOOLS:
                self.tools.append(name[:128])


def _frames(content_type: str) -> Frames | None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return Events()
    if kind == "application/vnd.amazon.eventstream":
        return Messages()
    return Lines() if kind in ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines") else None


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _at(node: Json, at: At) -> str:
    for step in at:
        node = node[step]  # type: ignore[index]
    assert isinstance(node, str)
    return node
