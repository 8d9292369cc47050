"""Bedrock's binary streams: values are put back, and lengths and checksums are right again."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import pytest

from stockade.privacy.extract import Api

from .test_answers import VALUE, anthropic, passed, reader, said_by_anthropic, sse, vault

KIND = "application/vnd.amazon.eventstream"


def header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()


def message(event: str, payload: dict[str, Any]) -> bytes:
    headers = header(":event-type", event) + header(":content-type", "application/json") + header(":message-type", "event")
    body = json.dumps(payload).encode()
    made = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    made += struct.pack(">I", zlib.crc32(made)) + headers + body
    return made + struct.pack(">I", zlib.crc32(made))


def told(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    found = []
    while stream:
        size, headers, crc = struct.unpack(">III", stream[:12])
        raw, stream = stream[:size], stream[size:]
        assert len(raw) == size and crc == zlib.crc32(raw[:8]) and struct.unpack(">I", raw[-4:])[0] == zlib.crc32(raw[:-4])
        kind = raw[12 : 12 + headers]
        assert kind.startswith(b"\x0b:event-type\x07")
        length = struct.unpack(">H", kind[13:15])[0]
        found.append((kind[15 : 15 + length].decode(), json.loads(raw[12 + headers : -4])))
    return found


def converse(first: str, second: str) -> bytes:
    def delta(index: int, inner: dict[str, Any]) -> bytes:
        return message("contentBlockDelta", {"contentBlockIndex": index, "delta": inner, "p": "abcd"})

    return b"".join(
        [
            message("messageStart", {"role": "assistant"}),
            delta(0, {"reasoningContent": {"text": f"ü {first}"}}),
            delta(0, {"reasoningContent": {"text": second}}),
            delta(0, {"reasoningContent": {"signature": "c2ln"}}),
            message("contentBlockStop", {"contentBlockIndex": 0}),
            delta(1, {"text": f"I am {first}"}),
            delta(1, {"text": second}),
            message("contentBlockStop", {"contentBlockIndex": 1}),
            message("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t", "name": "find"}}}),
            delta(2, {"toolUse": {"input": f'{{"n": "{first}'}}),
            delta(2, {"toolUse": {"input": f'{second}"}}'}}),
            message("contentBlockStop", {"contentBlockIndex": 2}),
            message("messageStop", {"stopReason": "tool_use"}),
            message("metadata", {"usage": {"totalTokens": 3}}),
        ]
    )


def said_by_converse(stream: bytes) -> dict[int, str]:
    texts: dict[int, str] = {}
    over: set[int] = set()
    for kind, payload in told(stream):
        if kind == "contentBlockDelta":
            index, delta = payload["contentBlockIndex"], payload["delta"]
            assert index not in over
            more = delta.get("text", "") + delta.get("toolUse", {}).get("input", "") + delta.get("reasoningContent", {}).get("text", "")
            texts[index] = texts.get(index, "") + more
        elif kind == "contentBlockStop":
            over.add(payload["contentBlockIndex"])
    return texts


def invoke(first: str, second: str) -> bytes:
    inner = [each for each in anthropic(first, second) if isinstance(each, dict)]
    return b"".join(message("chunk", {"bytes": base64.b64encode(json.dumps(each).encode()).decode(), "p": "ab"}) for each in inner)


def said_by_invoke(stream: bytes) -> dict[int, str]:
    return said_by_anthropic(sse(*(json.loads(base64.b64decode(payload["bytes"])) for _, payload in told(stream))))


def test_converse_and_invoke_at_every_cut_of_the_placeholder() -> None:
    of, mark = vault()
    want = {0: f"ü {VALUE}", 1: f"I am {VALUE}", 2: '{"n": ' + json.dumps(VALUE, ensure_ascii=False) + "}"}
    for cut in range(len(mark) + 1):
        read = reader(of, Api.BEDROCK_CONVERSE, KIND)
        assert said_by_converse(passed(read, converse(mark[:cut], mark[cut:]))) == want
        assert read.unreadable is None and read.tools == ["find"]
        read = reader(of, Api.BEDROCK_INVOKE, KIND)
        assert said_by_invoke(passed(read, invoke(mark[:cut], mark[cut:]))) == {**want, 0: f"über {VALUE}"}
        assert read.tools == ["find"]
    made = passed(reader(of, Api.BEDROCK_CONVERSE, KIND), converse(mark[:5], ""))
    assert said_by_converse(made) == {0: f"ü {mark[:5]}", 1: f"I am {mark[:5]}", 2: f'{{"n": "{mark[:5]}"}}'}


def test_the_octets_may_be_cut_anywhere_and_pass_as_they_came() -> None:
    of, mark = vault()
    stream = converse(mark[:6], mark[6:])
    whole = passed(reader(of, Api.BEDROCK_CONVERSE, KIND), stream)
    for cut in range(len(stream)):
        assert passed(reader(of, Api.BEDROCK_CONVERSE, KIND), stream[:cut], stream[cut:]) == whole
    for api, plain in ((Api.BEDROCK_CONVERSE, converse("so", "me")), (Api.BEDROCK_INVOKE, invoke("so", "me"))):
        assert passed(reader(of, api, KIND), *(plain[at : at + 1] for at in range(len(plain)))) == plain


@pytest.mark.parametrize("at", [0, 5, 9, 40, -1])
def test_a_wrong_checksum_is_not_read(at: int) -> None:
    of, mark = vault()
    stream = bytearray(message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": mark}}))
    stream[at] ^= 1
    read = reader(of, Api.BEDROCK_CONVERSE, KIND)
    assert passed(read, bytes(stream)) == stream and read.unreadable == "binary"


def test_other_models_in_invoke() -> None:
    of, mark = vault()
    for shape in (
        lambda text, end: {"generation": text, "stop_reason": "stop" if end else None},
        lambda text, end: {"outputText": text, "index": 0, "completionReason": "FINISH" if end else None},
        lambda text, end: {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": text}}},
    ):
        inner = [shape(mark[:7], False), shape(mark[7:], False), shape(f" {mark[:4]}", True)]
        stream = b"".join(message("chunk", {"bytes": base64.b64encode(json.dumps(each).encode()).decode()}) for each in inner)
        made = passed(reader(of, Api.BEDROCK_INVOKE, KIND), stream)
        parts = [json.loads(base64.b64decode(payload["bytes"])) for _, payload in told(made)]
        wrapped = [part.get("contentBlockDelta", {}).get("delta", {}).get("text", "") for part in parts]
        texts = [part.get("generation", part.get("outputText", inner)) for part, inner in zip(parts, wrapped, strict=True)]
        assert "".join(texts) == f"{VALUE} {mark[:4]}"
