"""What crosses a WebSocket beside its messages: nothing of the client's that nobody has read."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from wsproto.events import CloseConnection, Message, Ping, Pong

from stockade.proxy.websocket import OUTSTANDING, Control
from stockade.types import Action, Effect, Reason

from .conftest import World, refusal
from .test_silent_failures import UPGRADE, masked

PING, PONG, CLOSE = 0x89, 0x8A, 0x88
SECRET = b"~secret~"


def frame(first: int, payload: bytes) -> bytes:
    return bytes([first]) + masked(payload)[1:]


async def heard(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame that came, of either side."""
    first, length = await reader.readexactly(2)
    mask = await reader.readexactly(4) if length & 0x80 else bytes(4)
    return first, bytes(octet ^ mask[index % 4] for index, octet in enumerate(await reader.readexactly(length & 0x7F)))


class Server:
    """Keeps what it hears, answers pings as it must, and sends one of its own first."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n\x89\x05there"
        )
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, payload = await heard(reader)
                self.frames.append((first, payload))
                if first == PING:
                    writer.write(bytes([PONG, len(payload)]) + payload)
                elif first != PONG:
                    writer.write(bytes([first, len(payload)]) + payload)
        writer.close()


def test_pings_pongs_and_the_reason_for_closing_carry_nothing_out(proxied) -> None:  # type: ignore[no-untyped-def]
    async def scenario(world: World) -> None:
        server = Server()
        port = await world.server(server, world.pki.context("ws.example", ("http/1.1",)))
        number = world.name("ws.example", port)
        reader, writer = await world.dial(number)
        writer.write(UPGRADE.replace("{host}", f"ws.example:{port}").encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert await heard(reader) == (PING, b"there"), "what the server asks is asked"
        writer.write(frame(PONG, SECRET) + frame(PONG, b"there") + frame(PONG, b"there"))
        writer.write(frame(PING, SECRET) + frame(PING, b""))
        assert [await heard(reader) for _ in range(2)] == [(PONG, SECRET), (PONG, b"")], "each ping has its own answer"
        writer.write(masked(b"one"))
        assert await heard(reader) == (0x81, b"one")
        writer.write(frame(CLOSE, b"\x03\xe8" + SECRET))
        assert (await heard(reader))[1][:2] == b"\x03\xe8"
        await world.spine.settled()
        pongs = [payload for first, payload in server.frames if first == PONG]
        assert pongs == [b"", b"there", b""], "one answer for one question; what nobody asked for shows that the client is there"
        assert server.frames[-1] == (CLOSE, b"\x03\xe8")
        assert len([first for first, _ in server.frames if first == PING]) == 2
        assert not any(SECRET in payload for _, payload in server.frames)
        (record,) = world.spine.of(Action.WEBSOCKET)
        assert record.http is not None and (record.effect, record.http.request_bytes) == (Effect.PASS, 3)

    proxied(scenario)


@pytest.mark.parametrize("more", ["", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"])
def test_a_protocol_that_nobody_asked_for_is_not_switched_to(proxied, more: str) -> None:  # type: ignore[no-untyped-def]
    """The record of a GET would stand for a tunnel."""

    async def scenario(world: World) -> None:
        server = Server()
        number = world.name("ws.example", await world.server(server))
        reader, writer = await world.dial(number, tls=False)
        status, body = await world.exchange(number, reader, writer, f"GET /chat HTTP/1.1\r\nHost: {{host}}\r\n{more}\r\n")
        assert status == 403 and refusal(body)["reason"] == "upstream_error", body
        writer.write(masked(SECRET))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await world.spine.settled()
        assert server.connections == 1 and server.frames == []
        (record,) = world.spine.of(Action.HTTP)
        assert (record.effect, record.reason) == (Effect.REFUSE, Reason.UPSTREAM_ERROR) and world.spine.of(Action.WEBSOCKET) == []

    proxied(scenario)


async def websocket(world: World, server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Upgraded, with what the server asks first read."""
    number = world.name("ws.example", await world.server(server))
    reader, writer = await world.dial(number, tls=False)
    writer.write(UPGRADE.replace("{host}", f"ws.example:{world.port_of(number)}").encode())
    await reader.readuntil(b"\r\n\r\n")
    assert await heard(reader) == (PING, b"there")
    return reader, writer


@pytest.mark.parametrize("limit", [{"message_bytes": 1 << 20}, {"messages_bytes": 1 << 20}, {"message_fragments": 16384}])
def test_a_message_of_empty_fragments_is_not_kept(proxied, limit: dict[str, int]) -> None:  # type: ignore[no-untyped-def]
    async def scenario(world: World) -> None:
        server = Server()
        reader, writer = await websocket(world, server)
        with contextlib.suppress(ConnectionError):
            writer.write(frame(0x02, b"") + frame(0x00, b"") * 40_000)
            await writer.drain()
            writer.write(frame(PING, b""))
            assert await reader.read() == b"", "the ping behind them has no answer"
        await world.spine.settled()
        (record,) = world.spine.of(Action.WEBSOCKET)
        assert server.frames == [] and (record.effect, record.reason) == (Effect.CUT, Reason.INTERRUPTED)

    proxied(scenario, **limit)


def test_messages_of_many_fragments_go_on(proxied) -> None:  # type: ignore[no-untyped-def]
    """Each is counted by itself, on both sides."""

    async def scenario(world: World) -> None:
        server, fragments = Server(), [frame(0x01, b"x"), *[frame(0x00, b"y")] * 4998, frame(0x80, b"z")]
        reader, writer = await websocket(world, server)
        for _ in range(3):
            writer.write(b"".join(fragments))
            back = [await heard(reader) for _ in fragments]
            assert back[0] == (0x01, b"x") and back[-1] == (0x80, b"z")
            assert b"".join(payload for _, payload in back) == b"x" + b"y" * 4998 + b"z"
        assert len(server.frames) == 3 * len(fragments)
        assert [record.effect for record in world.spine.of(Action.WEBSOCKET)] == [Effect.PASS]

    proxied(scenario, message_fragments=6000, message_bytes=1 << 20, messages_bytes=1 << 20)


def test_what_nobody_answers_is_not_kept() -> None:
    control = Control()
    sent = [control.of_client(Ping(payload=b"%d" % number)) for number in range(OUTSTANDING + 1)]
    numbers = [event.payload for event in sent if isinstance(event, Ping)]
    assert len(set(numbers)) == OUTSTANDING + 1
    assert control.of_server(Pong(payload=numbers[0])) == Pong(payload=numbers[0]), "forgotten: it goes on as it is"
    assert control.of_server(Pong(payload=numbers[1])) == Pong(payload=b"1")
    for number in range(OUTSTANDING + 1):
        control.of_server(Ping(payload=b"%d" % number))
    assert control.of_client(Pong(payload=b"0")) == Pong(payload=b"")
    assert control.of_client(Pong(payload=b"1")) == Pong(payload=b"1")


def test_messages_and_what_a_server_closes_with_go_on() -> None:
    control = Control()
    for event in (Message(data="x"), Message(data=b"x")):
        assert control.of_client(event) is event and control.of_server(event) is event
    closing = CloseConnection(code=1000, reason="over")
    assert control.of_server(closing) is closing
    assert control.of_client(closing) == CloseConnection(code=1000, reason=None)
