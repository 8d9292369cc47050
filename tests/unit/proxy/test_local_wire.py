"""One exchange with a local server over a real socket: plain, over TLS, and with what is no answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from framework.ca import Authority, pem
from stockade.proxy.upstream import Trust
from stockade.proxy.wire import Broken, Wire

ANSWER = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y: z\r\n\r\nhello"


async def serve(said: bytes, use: Callable[[int, list[bytes]], Awaitable[None]], context: ssl.SSLContext | None = None) -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        heard.append(head + await reader.readexactly(length))
        writer.write(said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        await use(server.sockets[0].getsockname()[1], heard)


async def ask(port: int, trust: Trust | None = None, name: str = "local.test", body: bytes = b"x") -> tuple[int, dict[str, str], bytes]:
    wire = await Wire.open(["127.0.0.1"], port, 5, trust, name)
    try:
        await wire.send("POST", "/v1/x", (("host", "local.test"), ("connection", "close")), body)
        status, headers = await wire.head()
        said = b""
        while (piece := await wire.piece()) is not None:
            said += piece
        return status, headers, said
    finally:
        wire.close()


def test_an_exchange_without_tls() -> None:
    async def use(port: int, heard: list[bytes]) -> None:
        status, headers, said = await ask(port)
        assert (status, headers["x-y"], said) == (200, "z", b"hello")
        assert heard[0].startswith(b"POST /v1/x HTTP/1.1\r\n") and heard[0].endswith(b"\r\n\r\nx")
        assert sorted(line.partition(b":")[0].lower() for line in heard[0].split(b"\r\n")[1:-2]) == [
            b"connection",
            b"content-length",
            b"host",
        ]

    asyncio.run(serve(ANSWER, use))


@pytest.mark.parametrize("name", ["local.test", "other.test"])
def test_an_exchange_over_tls_is_one_with_the_server_of_that_name(tmp_path: Path, name: str) -> None:
    root = Authority.root()
    leaf = root.issue(tmp_path, "local.test")
    (tmp_path / "roots.pem").write_bytes(pem(root.certificate))
    trust = Trust.load(tmp_path / "roots.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.chain, leaf.key)
    long = bytes(range(256)) * 4096  # longer than a TLS record, both ways
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(long), long)

    async def use(port: int, heard: list[bytes]) -> None:
        if name != "local.test":
            with pytest.raises(Broken, match="certificate"):
                await ask(port, trust, name)
            assert not heard
            return
        assert (await ask(port, trust, name, long))[2] == long
        assert heard[0].endswith(long)

    asyncio.run(serve(said, use, context))


def test_a_certificate_that_nobody_vouches_for_gets_no_call(tmp_path: Path) -> None:
    leaf = Authority.root().issue(tmp_path, "local.test")
    (tmp_path / "roots.pem").write_bytes(pem(Authority.root().certificate))
    trust = Trust.load(tmp_path / "roots.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.chain, leaf.key)

    async def use(port: int, heard: list[bytes]) -> None:
        with pytest.raises(Broken, match="certificate"):
            await ask(port, trust)
        assert not heard

    asyncio.run(serve(ANSWER, use, context))


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    ],
)
def test_what_is_no_whole_answer_is_broken(said: bytes) -> None:
    async def use(port: int, _heard: list[bytes]) -> None:
        with pytest.raises(Broken):
            await ask(port)

    asyncio.run(serve(said, use))


def test_nobody_there() -> None:
    async def scenario() -> None:
        with pytest.raises(Broken, match="cannot be reached: Connection refused"):
            await ask(9)

    asyncio.run(scenario())
