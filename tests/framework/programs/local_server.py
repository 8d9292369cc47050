"""A local model's server, of one API: `openai` or `ollama`. Each request must be what the official client's own types allow, to the letter.

    python3 local_server.py openai|ollama LOG [ADDRESS PORT]

Prints its port. The name of the model asked for says how it behaves: `plain` says back what it was told, calls the first tool that it is
given and says what a tool gave back; the others fail, each in its own way. LOG has a JSON line for each request.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydantic

Json = dict[str, Any]
API, LOG = sys.argv[1], Path(sys.argv[2])
PIECE = 5
released = threading.Event()
lock = threading.Lock()

if API == "openai":
    from openai.types.chat.chat_completion_message_param import ChatCompletionMessageParam
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming, CompletionCreateParamsStreaming
    from openai.types.completion_create_params import CompletionCreateParamsNonStreaming as PlainNonStreaming
    from openai.types.completion_create_params import CompletionCreateParamsStreaming as PlainStreaming
    from openai.types.embedding_create_params import EmbeddingCreateParams

    CHATS = {False: pydantic.TypeAdapter(CompletionCreateParamsNonStreaming), True: pydantic.TypeAdapter(CompletionCreateParamsStreaming)}
    PLAIN = {False: pydantic.TypeAdapter(PlainNonStreaming), True: pydantic.TypeAdapter(PlainStreaming)}
    MESSAGE, EMBEDDING = pydantic.TypeAdapter(ChatCompletionMessageParam), pydantic.TypeAdapter(EmbeddingCreateParams)
else:
    from ollama._types import ChatRequest, EmbedRequest, GenerateRequest, Tool


def check_openai(path: str, asked: Json) -> None:
    if path == "/v1/embeddings":
        EMBEDDING.validate_python(asked, extra="forbid")
        return
    stream = asked.get("stream") is True
    if path == "/v1/completions":
        PLAIN[stream].validate_python(asked, extra="forbid")
        return
    assert path == "/v1/chat/completions", path
    CHATS[stream].validate_python(asked, extra="forbid")
    open_calls: list[str] = []
    for message in asked["messages"]:  # a validator of iterables looks at nothing until it is asked
        MESSAGE.validate_python(message, extra="forbid")
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])  # each result is of a call
        else:
            assert not open_calls, "a call without its result"
            open_calls = [call["id"] for call in message.get("tool_calls", [])]


def check_ollama(path: str, asked: Json) -> None:
    kind = {"/api/chat": ChatRequest, "/api/generate": GenerateRequest, "/api/embed": EmbedRequest}[path]
    apart = ("tools",) if path == "/api/embed" else ("truncate", "shift", "tools")  # newer than the client; and schemas, which may say more
    kind.model_validate({key: value for key, value in asked.items() if key not in apart}, extra="forbid")
    assert isinstance(asked["options"].get("stop", []), list), "the server takes no other form, though the client does"
    for each in asked.get("tools", []):
        Tool.model_validate(each)
    for message in asked.get("messages", []):
        assert message["role"] != "tool" or message["tool_name"], message


class Local(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/release":
            released.set()
        self.answer({"object": "list", "data": [], "models": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        said = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}, "body": body.decode()}
        with lock, LOG.open("a") as log:
            log.write(json.dumps(said) + "\n")
        asked = json.loads(body)
        try:
            (check_openai if API == "openai" else check_ollama)(self.path, asked)
        except Exception as error:
            with lock, LOG.open("a") as log:
                log.write(json.dumps({"invalid": repr(error)[:2000]}) + "\n")
            self.answer({"error": {"message": "invalid", "type": "invalid_request_error"}}, 400)
            return
        getattr(self, f"as_{asked['model'].replace('-', '_')}")(asked)

    # how it behaves

    def as_plain(self, asked: Json) -> None:
        if "input" in asked:
            vectors = [[float(len(text)), 0.5, -1.0] for text in asked["input"]]
            data = [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(vectors)]
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            whole = {"object": "list", "data": data, "model": "plain", "usage": usage}
            self.answer(whole if API == "openai" else {"model": "plain", "embeddings": vectors, "prompt_eval_count": 3})
        elif streams(asked):
            self.begin()
            for piece in pieces(asked):
                self.chunk(piece)
            self.chunk(b"")
        else:
            self.answer(whole_of(asked))

    def as_waits(self, asked: Json) -> None:
        released.wait(60)
        self.as_plain(asked)

    def as_silent(self, asked: Json) -> None:
        released.wait(60)

    def as_hangs(self, asked: Json) -> None:
        self.begin()
        for piece in list(pieces(asked))[:2]:
            self.chunk(piece)
        released.wait(60)

    def as_breaks(self, asked: Json) -> None:
        self.begin()
        for piece in list(pieces(asked))[:2]:
            self.chunk(piece)
        time.sleep(0.2)  # for what was written to arrive before the reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def as_garbage(self, asked: Json) -> None:
        self.send_response(200)
        self.send_header("content-length", "28")
        self.end_headers()
        self.wfile.write(b"<html>not what was asked</ht")

    def as_fails(self, asked: Json) -> None:
        self.answer({"error": {"message": f"cannot answer {last(asked)}", "type": "server_error", "code": "out_of_memory"}}, 500)

    def as_too_long(self, asked: Json) -> None:
        said = "This model's maximum context length is 64 tokens, however you requested more."
        self.answer({"error": {"message": said, "type": "invalid_request_error", "code": "context_length_exceeded"}}, 400)

    def as_elsewhere(self, asked: Json) -> None:
        self.send_response(307)
        self.send_header("location", "https://api.openai.com/v1/chat/completions")
        self.send_header("content-length", "0")
        self.end_headers()

    def as_packed(self, asked: Json) -> None:
        self.send_response(200)
        self.send_header("content-encoding", "gzip")
        self.send_header("content-length", "0")
        self.end_headers()

    # how it is said

    def answer(self, value: Json, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if API == "openai" else "application/x-ndjson")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


def streams(asked: Json) -> bool:
    return asked.get("stream", API == "ollama") is not False and asked.get("stream") is not None


def last(asked: Json) -> str:
    if "prompt" in asked:
        return str(asked["prompt"])
    message = asked["messages"][-1]
    content = message["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    return f"the tool said: {text}" if message["role"] == "tool" else text


def tool(asked: Json) -> str | None:
    """The first tool, unless it was called just now."""
    return asked["tools"][0]["function"]["name"] if asked.get("tools") and asked["messages"][-1]["role"] != "tool" else None


def whole_of(asked: Json) -> Json:
    text, name = f"You said: {last(asked)}", tool(asked)
    if API == "ollama":
        ended = {"model": asked["model"], "done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3}
        if "prompt" in asked:
            return {**ended, "response": text}
        call = [{"function": {"name": name, "arguments": {"mrn": "Zoë-12"}}}]
        return {**ended, "message": {"role": "assistant", "content": ""} | ({"tool_calls": call} if name else {"content": text})}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    if "prompt" in asked:
        choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
        return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked["model"], "choices": [choice], "usage": usage}
    call = [{"id": "call-1", "type": "function", "function": {"name": name, "arguments": '{"mrn": "Zoë-12"}'}}]
    message: Json = {"role": "assistant", "content": None, "tool_calls": call} if name else {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if name else "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice], "usage": usage}


def pieces(asked: Json) -> Iterator[bytes]:
    whole = whole_of(asked)
    message = whole.get("message") or (whole.get("choices") or [{}])[0].get("message") or {}
    text = whole.get("response") or (whole.get("choices") or [{}])[0].get("text") or message.get("content") or ""
    cut = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    if API == "ollama":
        going = {"model": asked["model"], "done": False}
        for each in cut:
            yield line({**going, "response": each} if "prompt" in asked else {**going, "message": {"role": "assistant", "content": each}})
        if calls := message.get("tool_calls"):
            yield line({**going, "message": {"role": "assistant", "content": "", "tool_calls": calls}})
        empty = {"response": ""} if "prompt" in asked else {"message": {"role": "assistant", "content": ""}}
        yield line({**whole, **empty})
        return
    head = {key: whole[key] for key in ("id", "created", "model")}
    if "prompt" in asked:
        for each in cut:
            yield event({**head, "object": "text_completion", "choices": [{"index": 0, "text": each, "finish_reason": None}]})
        yield event({**head, "object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    else:
        yield delta(head, {"role": "assistant", "content": ""})
        for each in cut:
            yield delta(head, {"content": each})
        for call in message.get("tool_calls", []):
            arguments = call["function"]["arguments"]
            yield delta(head, {"tool_calls": [{"index": 0, **call, "function": {**call["function"], "arguments": ""}}]})
            for at in range(0, len(arguments), PIECE):
                yield delta(head, {"tool_calls": [{"index": 0, "function": {"arguments": arguments[at : at + PIECE]}}]})
        yield delta(head, {}, "tool_calls" if message.get("tool_calls") else "stop")
    if asked.get("stream_options"):
        yield event({**head, "object": "chat.completion.chunk", "choices": [], "usage": whole["usage"]})
    yield b"data: [DONE]\n\n"


def delta(head: Json, said: Json, stop: str | None = None) -> bytes:
    return event({**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": said, "finish_reason": stop}]})


def event(value: Json) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def line(value: Json) -> bytes:
    return json.dumps(value).encode() + b"\n"


where = (sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else ("127.0.0.1", 0)
server = ThreadingHTTPServer(where, Local)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
