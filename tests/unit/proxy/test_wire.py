"""What crosses between worker and agent, and what is read off a ClientHello."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import socket
import ssl

import pytest

from stockade.kernel.abi import Origin, Verdict
from stockade.proxy import clienthello, codec
from stockade.proxy.channel import Channel
from stockade.types import Action, Binary, Destination, Effect, Http, Level, Outcome, Reason, Record

RECORD = Record(
    action=Action.HTTP,
    outcome=Outcome.DENY,
    effect=Effect.REFUSE,
    level=Level.PATH,
    reason=Reason.NO_RULE,
    rule="r",
    enforced=False,
    binary=Binary("pip", frozenset({"pip", "pip3"}), "/usr/bin/python3.13", "/usr/bin/pip", "ab" * 32, "weak"),
    exec_id=3,
    pid=4,
    ancestry=("/usr/bin/bash",),
    destination=Destination("a.example", 443, "192.0.2.1"),
    http=Http("GET", "/x", 403, 1, 2),
    generation=9,
    detail={"error": "e", "count": 3, "all": ["x", "y"]},
)
ORIGIN = Origin(7, 1, 2**40, 4242, 5, 1, 443, Verdict.RELAY, ipaddress.ip_address("fd57:a11d::5"), 2**63)


def through_json(value: codec.Json) -> codec.Json:
    decoded: codec.Json = json.loads(json.dumps(value))
    return decoded


def test_a_record_comes_back_as_it_was():
    assert codec.decode_record(through_json(codec.encode_record(RECORD))) == RECORD
    bare = Record(Action.CONNECT, Outcome.DENY, Effect.REFUSE, Level.DESTINATION, Reason.NO_ORIGIN)
    assert codec.decode_record(through_json(codec.encode_record(bare))) == bare


def test_an_origin_comes_back_as_it_was():
    assert codec.decode_origin(through_json(codec.encode_origin(ORIGIN))) == ORIGIN


@pytest.mark.parametrize("field", list(codec.encode_record(RECORD)))
@pytest.mark.parametrize("wrong", [[], 1.5, -1, {"x": {}}, "x" * 20000, True])
def test_a_record_with_a_wrong_field_is_refused(field, wrong):
    message = codec.encode_record(RECORD)
    message[field] = wrong
    if (field == "enforced" and wrong is True) or (field == "ancestry" and wrong == []):
        return
    with pytest.raises(ValueError):
        codec.decode_record(through_json(message))


def test_frames_and_descriptors_arrive_in_order_and_the_end_once():
    async def main() -> None:
        left, right = socket.socketpair()
        frames: list[bytes] = []
        ends: list[int] = []
        receiver = Channel(right, received=frames.append, lost=lambda: ends.append(1))
        sender = Channel(left, received=frames.append, lost=lambda: ends.append(2))
        pipe = os.pipe()
        big = os.urandom(3_000_000)
        sender.send(b"one", pipe)
        sender.send(big)
        sender.send(b"")
        async with asyncio.timeout(5):
            while len(frames) < 3:
                await asyncio.sleep(0.01)
        assert frames == [b"one", big, b""]
        read, write = receiver.take_descriptors(2)
        os.write(write, b"x")
        assert os.read(read, 1) == b"x" and os.read(pipe[0], 0) == b""
        with pytest.raises(ValueError):
            receiver.take_descriptors(1)
        sender.close()
        async with asyncio.timeout(5):
            while not ends:
                await asyncio.sleep(0.01)
        assert ends == [1]
        for descriptor in (read, write, *pipe):
            os.close(descriptor)

    asyncio.run(main())


def test_a_frame_beyond_the_limit_ends_the_channel():
    async def main() -> None:
        left, right = socket.socketpair()
        ends: list[int] = []
        Channel(right, received=lambda frame: None, lost=lambda: ends.append(1), limit=10)
        left.sendall(b"\x00\x00\x00\x0bxxxxxxxxxxx")
        async with asyncio.timeout(5):
            while not ends:
                await asyncio.sleep(0.01)
        left.close()

    asyncio.run(main())


def hello(name: str | None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def test_the_server_name_is_read_whole_and_in_pieces():
    data = hello("a.example")
    assert clienthello.parse(data) == clienthello.ClientHello("a.example")
    assert clienthello.parse(hello(None)) == clienthello.ClientHello(None)
    for end in range(len(data)):
        assert clienthello.parse(data[:end]) is None
    pieces = b"".join(data[:3] + (1).to_bytes(2) + data[at : at + 1] for at in range(5, len(data)))
    assert clienthello.parse(pieces) == clienthello.ClientHello("a.example")


def test_a_hello_that_lies_about_its_lengths_is_refused():
    data = bytearray(hello("a.example"))
    at = data.find(b"a.example")
    for position in range(9, at):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        try:
            parsed = clienthello.parse(bytes(broken))
        except ValueError:
            continue
        assert parsed is None or parsed.server_name in {None, "a.example"}


def test_two_server_names_are_refused():
    data = hello("a.example")
    name = b"\x00\x00\x09a.example"
    single = b"\x00\x00\x00\x0e\x00\x0c" + name
    double = b"\x00\x00\x00\x1a\x00\x18" + name + name
    assert single in data
    extensions = data.find(single)
    grown = bytearray(data.replace(single, double))
    for offset, size in ((3, 2), (6, 3)):  # record and handshake lengths
        grown[offset : offset + size] = (int.from_bytes(data[offset : offset + size]) + 12).to_bytes(size)
    at = 9 + 2 + 32
    at += 1 + data[at]
    at += 2 + int.from_bytes(data[at : at + 2])
    at += 1 + data[at]
    assert at < extensions
    grown[at : at + 2] = (int.from_bytes(data[at : at + 2]) + 12).to_bytes(2)
    with pytest.raises(ValueError, match="more than one"):
        clienthello.parse(bytes(grown))
