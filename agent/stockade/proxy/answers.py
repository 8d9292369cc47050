"""An answer of a model read while it streams: values put back, names of tool calls and a digest kept, nothing held longer than it must be.

Reads by form, not by schema: the strings below the keys that carry text in every API known here. A stream is cut into its messages; a
placeholder may be cut over several of them, so each text that is going on has a Restore of its own, and what that still holds is sent in a
copy of the last message before anything says that the text is over.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

TEXTS = frozenset(
    {"content", "text", "delta", "thinking", "reasoning", "reasoning_content", "response", "refusal", "output_text", "completion"}
)
WITHIN_JSON = frozenset({"partial_json", "arguments", "partialJson", "input"})
_NAME = re.compile(r"[\w.:/@+\-]{1,128}", re.ASCII)
MESSAGE = 16 << 20  # octets of a message of a stream, or of an answer that is one object
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class Restoring(Protocol):
    def feed(self, piece: str) -> str: ...

    def flush(self) -> str: ...


type Make = Callable[[bool], Restoring]  # within_json → a Restore


class Answer:
    """kind: the media type of the answer. make: None when there is nothing to put back, and then every octet passes as it came."""

    def __init__(self, kind: str, make: Make | None) -> None:
        self._make, self._lines = make, "ndjson" in kind or "jsonl" in kind
        self._stream = self._lines or "event-stream" in kind
        self._json = self._stream or "json" in kind
        self._buffer, self._too_long = bytearray(), False
        self._digest, self._tools = hashlib.sha256(), dict[str, None]()
        self._going: dict[tuple[Any, ...], tuple[Restoring, dict[str, Any], bytes]] = {}
        self._over = False

    def feed(self, data: bytes) -> bytes:
        self._digest.update(data)
        if not self._json or self._too_long:
            return data
        self._buffer += data
        made = b"".join(self._messages()) if self._stream else b""
        if len(self._buffer) > MESSAGE:
            self._too_long = True
            made += bytes(self._buffer)
            self._buffer.clear()
        return data if self._make is None else made

    def end(self) -> bytes:
        if self._over:
            return b""
        self._over = True
        rest, self._buffer = bytes(self._buffer), bytearray()
        if not self._json or not rest.strip():
            made = rest
        elif self._stream:
            made = self._message(rest, b"")
        else:
            made = self._whole(rest)
        return b"" if self._make is None else b"".join(self._flush()) + made

    def digest(self) -> str:
        return self._digest.hexdigest()

    def tools(self) -> list[str]:
        return list(self._tools)[:64]

    def _messages(self) -> Iterator[bytes]:
        while True:
            if self._lines:
                at = self._buffer.find(b"\n")
                if at < 0:
                    return
                end = at + 1
            else:
                match = _END.search(self._buffer)
                if match is None:
                    return
                at, end = match.start(), match.end()
            message, close = bytes(self._buffer[:at]), bytes(self._buffer[at:end])
            del self._buffer[:end]
            yield self._message(message, close)

    def _message(self, message: bytes, close: bytes) -> bytes:
        """One message of a stream, with what has to go before it."""
        if self._lines:
            head, data = b"", message
        else:
            fields = message.replace(b"\r\n", b"\n").split(b"\n")
            head = b"".join(field + b"\n" for field in fields if not field.startswith(b"data:"))
            data = b"\n".join(field[5:].removeprefix(b" ") for field in fields if field.startswith(b"data:"))
        event = _object(data)
        if event is None:
            flushed = b"".join(self._flush()) if data.strip() else b""
            return flushed + message + close
        self._note(event)
        if self._make is None:
            return b""
        found = list(_texts(event))
        going_on = _going_on(event)
        if not found:
            flushed = b"" if event.get("type") == "ping" else b"".join(self._flush())
            return flushed + message + close
        frame = (head + b"data: \0" + close) if not self._lines else b"\0" + close
        over = b"" if going_on else b"".join(self._flush())
        for holder, key, channel in found:
            restore = self._going[channel][0] if going_on and channel in self._going else self._make(key in WITHIN_JSON)
            holder[key] = restore.feed(holder[key])
            if going_on:
                self._going[channel] = restore, json.loads(json.dumps(event)), frame
            else:
                holder[key] += restore.flush()
        if going_on and _says_over(event):
            for holder, key, channel in found:
                holder[key] += self._going.pop(channel)[0].flush()
        return over + frame.replace(b"\0", _dump(event))

    def _flush(self) -> Iterator[bytes]:
        """What is still held of texts, each in a copy of its last message."""
        for channel, (restore, event, frame) in list(self._going.items()):
            if rest := restore.flush():
                for holder, key, other in _texts(event):
                    holder[key] = rest if other == channel else ""
                yield frame.replace(b"\0", _dump(event))
        self._going.clear()

    def _whole(self, data: bytes) -> bytes:
        answer = _object(data)
        if answer is None:
            return data
        self._note(answer)
        if self._make is not None:
            _restore_all(answer, self._make)
        return _dump(answer)

    def _note(self, node: Any) -> None:
        """Names of tool calls: a name beside arguments or an input, in any API."""
        if isinstance(node, list):
            for each in node:
                self._note(each)
        elif isinstance(node, dict):
            name = node.get("name")
            if isinstance(name, str) and (node.keys() & {"arguments", "input", "args"}) and len(self._tools) < 64:
                self._tools[name if _NAME.fullmatch(name) else "?"] = None
            for each in node.values():
                self._note(each)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _going_on(event: dict[str, Any]) -> bool:
    """Whether its texts are pieces of longer ones."""
    kind = event.get("type")
    return kind.endswith("delta") if isinstance(kind, str) else True


def _says_over(event: dict[str, Any]) -> bool:
    choices = event.get("choices")
    ended = isinstance(choices, list) and any(isinstance(each, dict) and each.get("finish_reason") for each in choices)
    return ended or event.get("done") is True


def _texts(event: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, tuple[Any, ...]]]:
    """Every text of a message: the object and key that hold it, and which text of the answer it is a piece of."""
    base = tuple(event.get(key) for key in ("type", "index", "output_index", "content_index", "item_id"))
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(event, base)]
    while waiting:
        node, at = waiting.pop()
        if isinstance(node, list):
            waiting += [(each, (*at, each.get("index", place) if isinstance(each, dict) else place)) for place, each in enumerate(node)]
        elif isinstance(node, dict):
            for key, value in node.items():
                if isinstance(value, str) and key in TEXTS | WITHIN_JSON:
                    yield node, key, (*at, key)
                elif isinstance(value, dict | list):
                    waiting.append((value, (*at, key)))


def _restore_all(node: Any, make: Make) -> None:
    """Every string below, whatever its key."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        if isinstance(value, str):
            restore = make(key in WITHIN_JSON)
            node[key] = restore.feed(value) + restore.flush()
        else:
            _restore_all(value, make)
