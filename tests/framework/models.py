"""Language models that say back what they were asked, and keep every byte of it: a cloud's, or one on the host's loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any

from framework.web import Http, Streams

Json = dict[str, Any]
HELD_FROM = 3  # the message of a stream before which the server waits for `gate`
gate: Callable[[], object] | None = None
PIECE = 7  # characters of a streamed answer at a time: no placeholder fits into one


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


class _Answers(Http):
    """What is said back is the text of the last message, after SAID."""

    heard: list[Heard]

    def reply(self) -> None:
        body = self.body()
        self.heard.append(Heard(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        asked = json.loads(body)
        text = "You said: " + _last(asked)
        path = self.path.partition("?")[0]
        if path.endswith("/messages"):
            self._send(asked, _anthropic(text), _anthropic_events(text))
        elif path == "/api/chat":
            self._send(
                asked, {"model": asked["model"], "message": {"role": "assistant", "content": text}, "done": True}, _ollama_lines(text)
            )
        else:
            self._send(asked, _openai(text, asked["model"]), _openai_events(text, asked["model"]))

    def _send(self, asked: Json, whole: Json, events: Iterator[bytes]) -> None:
        if not asked.get("stream"):
            self.answer(json.dumps(whole).encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if "/api/" not in self.path else "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(events):
            if number == HELD_FROM and gate is not None:
                gate()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def _last(asked: Json) -> str:
    content = asked["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), PIECE):
        yield text[at : at + PIECE]


def _openai(text: str, model: str) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def _openai_events(text: str, model: str) -> Iterator[bytes]:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    for piece in _pieces(text):
        yield _event(frame | {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
    yield _event(frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield b"data: [DONE]\n\n"


def _anthropic(text: str) -> Json:
    usage = {"input_tokens": 1, "output_tokens": 1}
    content = [{"type": "text", "text": text}]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": content,
        "stop_reason": "end_turn",
        "usage": usage,
    }


def _anthropic_events(text: str) -> Iterator[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\n".encode() + _event({"type": kind} | fields)

    yield event("message_start", message=_anthropic("") | {"content": []})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for piece in _pieces(text):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1})
    yield event("message_stop")


def _ollama_lines(text: str) -> Iterator[bytes]:
    for piece in _pieces(text):
        yield json.dumps({"model": "local", "message": {"role": "assistant", "content": piece}, "done": False}).encode() + b"\n"
    yield (
        json.dumps({"model": "local", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}).encode()
        + b"\n"
    )


def _event(value: Json) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def cloud(heard: list[Heard]) -> type[Http]:
    """A handler for `Web`: GETs are those of Streams."""

    class Cloud(_Answers, Streams):
        def do_POST(self) -> None:
            if "json" in self.headers.get("Content-Type", ""):
                self.reply()
            else:
                Streams.do_PUT(self)

    Cloud.heard = heard
    return Cloud


class LocalModel:
    """On a port of the host's loopback."""

    def __init__(self, port: int = 0) -> None:
        self.heard: list[Heard] = []

        class Local(_Answers):
            def do_POST(self) -> None:
                self.reply()

            def do_GET(self) -> None:
                self.answer(b"{}")

        Local.heard = self.heard
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Local)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
