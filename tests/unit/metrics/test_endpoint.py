"""The page over HTTP: who is answered, with what, and who is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stockade.metrics import endpoint, peers, targets
from stockade.metrics.endpoint import Endpoint
from stockade.metrics.listen import Listen
from stockade.proxy import Authority
from stockade.service.order import Order
from stockade.service.settings import USER_BASE
from stockade.settings import Metrics
from stockade.types import StockadeError

LOOPBACK = Listen("127.0.0.1", 0)
TOKEN = "correct-horse-battery-staple"


@contextlib.asynccontextmanager
async def served(listen: Listen) -> AsyncIterator[Endpoint]:
    async def page(accept: str) -> tuple[bytes, str]:
        if accept == "broken":
            raise OSError("no page")
        return b"page\n", "text/plain; version=0.0.4"

    end = Endpoint(listen, page)
    end.open()
    end.serve()
    try:
        yield end
    finally:
        await end.close()


async def say(end: Endpoint, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", end.port, ssl=tls)
    writer.write(request)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


def test_one_page_is_served_and_nothing_else() -> None:
    async def run() -> None:
        async with served(LOOPBACK) as end:
            answer = await say(end, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\npage\n")
            for request, status in (
                (b"GET /metrics?x=1 HTTP/1.1\r\n\r\n", b"200"),
                (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"200"),
                (b"GET / HTTP/1.1\r\n\r\n", b"404"),
                (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
                (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
                (b"nonsense\r\n\r\n", b"400"),
                (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 2 * endpoint.HEAD + b"\r\n\r\n", b"400"),
                (b"GET /metrics HTTP/1.1\r\nAccept: broken\r\n\r\n", b"503"),
            ):
                assert (await say(end, request)).split(b" ")[1] == status, request[:60]
            assert end.requests == {"200": 3, "404": 2, "405": 1, "400": 2, "503": 1}

    asyncio.run(run())


def test_who_says_nothing_is_left_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "SECONDS", 0.5)

    async def run() -> None:
        async with served(LOOPBACK) as end:
            silent = [await asyncio.open_connection("127.0.0.1", end.port) for _ in range(endpoint.CLIENTS - 1)]
            assert b"200 OK" in await say(end, b"GET /metrics HTTP/1.1\r\n\r\n")
            for reader, _ in silent:
                assert await reader.read() == b""
            for _, writer in silent:
                writer.close()

    asyncio.run(run())


def test_a_token_is_demanded_whole(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")

    async def run() -> None:
        async with served(LOOPBACK.secured(None, None, f"file:{tmp_path}/token")) as end:
            for said, status in (
                (f"Bearer {TOKEN}", b"200"),
                (f"bearer {TOKEN}", b"200"),
                ("", b"401"),
                (f"Basic {TOKEN}", b"401"),
                (f"Bearer {TOKEN[:-1]}", b"401"),
                (f"Bearer {TOKEN}x", b"401"),
                ("Bearer ü", b"401"),
            ):
                answer = await say(end, f"GET /metrics HTTP/1.1\r\nAuthorization: {said}\r\n\r\n".encode("latin-1"))
                assert answer.split(b" ")[1] == status, said
                assert (b"page" in answer) is (status == b"200")
            assert b"401" in await say(end, b"GET /nowhere HTTP/1.1\r\n\r\n"), "nothing is told to whoever has no token"

    asyncio.run(run())


@pytest.mark.parametrize("content", ["", "two words", "ü", None])
def test_a_token_that_cannot_be_had_is_no_open_door(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(StockadeError) as error:
        LOOPBACK.secured(None, None, f"file:{tmp_path}/token").secret()
    assert error.value.code == "metrics_token"
    with pytest.raises(StockadeError):
        LOOPBACK.secured(None, None, "env:STOCKADE_NO_SUCH_VARIABLE").secret()


def test_tls_is_served_with_the_certificate_that_is_named(tmp_path: Path) -> None:
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=metrics -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*made.split(), "-keyout", tmp_path / "own.key", "-out", tmp_path / "own.pem"], check=True, capture_output=True)
    client = ssl.create_default_context(cafile=str(tmp_path / "own.pem"))

    async def run() -> None:
        async with served(LOOPBACK.secured(tmp_path / "own.pem", tmp_path / "own.key", None)) as end:
            assert b"page" in await say(end, b"GET /metrics HTTP/1.1\r\n\r\n", client)
            assert b"page" not in await say(end, b"GET /metrics HTTP/1.1\r\n\r\n")

    asyncio.run(run())
    (tmp_path / "own.key").write_bytes(Authority.create("other").signing.key)
    with pytest.raises(StockadeError) as error:
        Endpoint(LOOPBACK.secured(tmp_path / "own.pem", tmp_path / "own.key", None), None).open()  # type: ignore[arg-type]
    assert error.value.code == "metrics_tls"


def test_a_port_that_is_taken_is_said_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StockadeError) as error:
            Endpoint(Listen("127.0.0.1", port), None).open()  # type: ignore[arg-type]
    assert error.value.code == "port_taken" and str(port) in error.value.message and "127.0.0.1:0" in error.value.hint


@pytest.mark.parametrize(
    ("text", "meant"),
    [("127.0.0.1:9464", "127.0.0.1:9464"), ("[::1]:0", "[::1]:0"), (":9464", "127.0.0.1:9464"), ("9464", "127.0.0.1:9464")],
)
def test_where_to_listen_is_read(text: str, meant: str) -> None:
    assert str(Listen.parse(text)) == meant


@pytest.mark.parametrize("text", ["", "x", "localhost:9464", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:-1", "[::1]", "1.2.3:1"])
def test_what_is_no_address_and_port_is_not(text: str) -> None:
    with pytest.raises(ValueError):
        Listen.parse(text)


DIAL = r"""
import os, socket, sys
"x".encode("idna")  # loaded while there is a right to
os.setuid(int(sys.argv[1]))
with socket.create_connection((sys.argv[2], int(sys.argv[3]))) as sock:
    sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    print(sock.recv(99))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's socket is root's to make")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_stockades_own_users_are_turned_away_whatever_they_bring(address: str) -> None:
    async def run() -> None:
        async with served(Listen(address, 0)) as end:
            for user, answered in ((0, True), (65534, True), (USER_BASE, False), (USER_BASE + 1, False), (USER_BASE + 1000, False)):
                command = [sys.executable, "-c", DIAL, str(user), address, str(end.port)]
                done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
                assert ("200 OK" in done.stdout) is answered, (user, done)
            assert end.requests == {"200": 2, "peer": 3}

    asyncio.run(run())


def test_a_table_that_cannot_be_read_is_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        connection, _ = server.accept()
        with connection:
            assert not peers.governed(connection)
            with pytest.raises(OSError):
                peers.governed(connection, tmp_path)
            monkeypatch.setattr(endpoint, "governed", lambda _connection: peers.governed(connection, tmp_path))
            assert endpoint._is_governed(connection)


def test_targets_are_left_by_whoever_was_killed_and_swept_when_they_are_old(tmp_path: Path) -> None:
    for name in ("ended", "killed", "lives", "old"):
        targets.Target(tmp_path, name).write("127.0.0.1:9464", "http")
    targets.Target(tmp_path, "ended").remove()
    for name in ("lives", "old"):
        os.utime(tmp_path / f"{name}.json", (0, 0))
    targets.sweep(tmp_path, {"lives"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.json", "lives.json"]


def test_the_command_line_says_where_and_the_settings_say_to_whom() -> None:
    secured = Listen("127.0.0.1", 9464).secured(Path("/own.pem"), Path("/own.key"), "env:TOKEN")
    settings, nothing = Metrics(secured), Metrics()

    def order(metrics: str | None) -> Order:
        return Order(("true",), (), metrics=metrics)

    assert order(None).listen(settings) == secured and order(None).listen(nothing) is None
    assert order("off").listen(settings) is None
    assert order("[::1]:0").listen(settings) == Listen("::1", 0).secured(Path("/own.pem"), Path("/own.key"), "env:TOKEN")
    assert order("9000").listen(nothing) == Listen("127.0.0.1", 9000)
    with pytest.raises(StockadeError) as error:
        order("nowhere").listen(settings)
    assert error.value.code == "bad_listen" and error.value.hint


def test_what_most_runs_never_need_is_not_loaded_with_the_agent() -> None:
    dear = {"prometheus_client", "cryptography.x509", "stockade.metrics.endpoint"}
    code = f"import sys, stockade.service.tenure; print({dear} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n", done
