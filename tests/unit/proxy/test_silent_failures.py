"""What mitmproxy does quietly and a sandbox must not have: one test for each of the eleven that were found by experiment."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from pathlib import Path

from stockade.proxy import Resolved
from stockade.types import Action, Effect, Reason

from .conftest import FakePolicy, Seen, World, answer_http1, read_answer, refusal

ANY = FakePolicy(allow=tuple((method, "/") for method in ("GET", "POST", "PUT")))
MEGABYTE = 1024 * 1024


def resident(pid: int) -> int:
    """Peak resident memory of a process so far, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def test_1_a_listener_without_its_protocol_gets_nodelay_all_the_same(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False)
        started = time.monotonic()
        for _ in range(40):  # Nagle against delayed ACK costs 40 ms or more for each
            status, _ = await world.exchange(number, reader, writer, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
            assert status == 200
        assert time.monotonic() - started < 2

    proxied(scenario, proto=0)


def test_2_requests_of_a_connection_share_one_upstream_connection(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        reader, writer = await world.dial(number)
        for index in range(5):
            status, body = await world.exchange(number, reader, writer, f"GET /{index} HTTP/1.1\r\nHost: {{host}}\r\n\r\n")
            assert (status, body) == (200, b"GET /%d HTTP/1.1" % index)
        assert seen.connections == 1 and world.spine.resolved == ["a.example"]

    proxied(scenario)


def test_3_what_is_neither_tls_nor_http_is_closed_and_recorded(proxied):
    async def scenario(world: World) -> None:
        seen = Seen()
        port = await world.server(lambda r, w: answer_http1(r, w, seen))
        for host, where, said in (
            ("a.example", port, b"SSH-2.0-OpenSSH_9.2\r\n"),
            ("b.example", 53, b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"),
        ):
            number = world.name(host, where)
            reader, writer = await world.dial(number, tls=False)
            writer.write(said)
            status, body = await read_answer(reader)
            told = refusal(body)
            assert (status, told["reason"], told["record"]) == (403, "protocol_error", f"{len(world.spine.records)}-0123456789ab")
            assert await reader.read() == b""
        assert [record.reason for record in world.spine.of(Action.CONNECT)] == [Reason.PROTOCOL_ERROR] * 2
        assert seen.connections == 0

    proxied(scenario)


def test_3_bytes_inside_tls_that_are_not_http_are_closed_too(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        reader, writer = await world.dial(number)
        writer.write(b"\x00\x01\x02 raw tunnel")
        status, _ = await read_answer(reader)
        assert status == 403 and seen.connections == 0

    proxied(scenario)


def test_4_a_handshake_dials_nobody(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        _, writer = await world.dial(number)
        await asyncio.sleep(0.2)
        assert seen.connections == 0 and world.spine.resolved == []
        writer.close()

    proxied(scenario)


def test_5_the_policy_speaks_before_a_streamed_body_leaves(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        reader, writer = await world.dial(number)
        status, body = await world.exchange(
            number, reader, writer, "PUT /f HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        )
        assert status == 403 and refusal(body)["level"] == "method"
        assert seen.connections == 0

    proxied(scenario)


def test_6_a_refused_upload_is_answered_at_once_and_never_kept(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        before = resident(world.worker.pid)
        reader, writer = await world.dial(number)
        size = 200 * MEGABYTE
        head = f"PUT /f HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {size}\r\n\r\n"
        status, body = await world.exchange(number, reader, writer, head)  # answered while nothing of the body was sent
        assert status == 403 and refusal(body)["reason"] == "no_rule"
        for _ in range(200):
            writer.write(bytes(MEGABYTE))
            await writer.drain()
        assert await reader.read() == b""  # read to its end, then closed
        assert resident(world.worker.pid) - before < 40 * MEGABYTE
        assert seen.connections == 0

    proxied(scenario)


def test_6_over_http2_as_well(proxied, tmp_path):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example", ("h2",))
        big = tmp_path / "big"
        with big.open("wb") as file:
            file.truncate(200 * MEGABYTE)
        before = resident(world.worker.pid)
        out, _ = await world.curl(number, "--http2", "-T", str(big), "-H", "Expect:", "{url}/f", "-w", "\n%{http_version} %{http_code}")
        assert refusal(out.splitlines()[0].encode())["reason"] == "no_rule" and out.splitlines()[-1] == "2 403"
        assert resident(world.worker.pid) - before < 40 * MEGABYTE
        assert seen.connections == 0

    proxied(scenario)


def test_7_the_absolute_form_is_judged_by_its_authority(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        status, body = await world.ask(number, "GET http://other.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n", tls=False)
        assert status == 403 and refusal(body)["reason"] == "host_mismatch"
        assert seen.connections == 0
        status, body = await world.ask(number, "GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n", tls=False)
        assert (status, body) == (200, b"GET /x HTTP/1.1")  # sent in origin form

    proxied(scenario)


UPGRADE = (
    "GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n\r\n"
)


def masked(text: bytes) -> bytes:
    return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text


async def websocket_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
    seen.connections += 1
    await reader.readuntil(b"\r\n\r\n")
    accept = b"ICX+Yqv66kxgM0FcWaLWlFLwTAI="  # of sixteen zero bytes (RFC 6455, 4.2.2)
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    try:
        while True:
            first, length = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            payload = bytes(octet ^ mask[index % 4] for index, octet in enumerate(await reader.readexactly(length & 0x7F)))
            seen.heads.append(payload)
            writer.write(bytes([first, len(payload)]) + payload)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def test_8_a_websocket_is_cut_when_a_reload_denies_it(proxied):
    async def scenario(world: World) -> None:
        seen = Seen()
        port = await world.server(lambda r, w: websocket_echo(r, w, seen), world.pki.context("ws.example", ("http/1.1",)))
        number = world.name("ws.example", port)
        reader, writer = await world.dial(number)
        writer.write(UPGRADE.replace("{host}", f"ws.example:{port}").encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        for text in (b"one", b"two"):
            writer.write(masked(text))
            assert await reader.readexactly(5) == b"\x81\x03" + text
        await world.reload(FakePolicy(allow=(("GET", "/other"),), generation=2))
        writer.write(masked(b"three"))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert seen.heads == [b"one", b"two"]
        await world.spine.settled()
        (record,) = world.spine.of(Action.WEBSOCKET)
        assert (record.effect, record.reason) == (Effect.CUT, Reason.POLICY_CHANGED)
        assert record.http is not None and (record.http.status, record.http.request_bytes, record.http.response_bytes) == (101, 6, 6)

    proxied(scenario)


def test_8_a_message_that_never_ends_is_not_kept(proxied):
    async def scenario(world: World) -> None:
        seen = Seen()
        port = await world.server(lambda r, w: websocket_echo(r, w, seen))
        number = world.name("ws.example", port)
        reader, writer = await world.dial(number, tls=False)
        writer.write(UPGRADE.replace("{host}", f"ws.example:{port}").encode())
        await reader.readuntil(b"\r\n\r\n")
        fragment = b"\x02\xfe\xff\xff" + bytes(4) + bytes(65535)
        with contextlib.suppress(ConnectionError):
            for index in range(64):
                writer.write(fragment if index == 0 else b"\x00" + fragment[1:])
                await writer.drain()
            assert await reader.read() == b""
        await world.spine.settled()
        assert seen.heads == [] and world.spine.of(Action.WEBSOCKET)[0].reason is Reason.INTERRUPTED

    proxied(scenario, message_bytes=MEGABYTE)


def test_8_neither_are_many_that_never_end(proxied):
    """The one that would be too much is closed; those that were there before, and small ones, go on."""

    async def scenario(world: World) -> None:
        seen = Seen()
        port = await world.server(lambda r, w: websocket_echo(r, w, seen))
        number = world.name("ws.example", port)
        fragment = b"\x02\xfe\xff\xff" + bytes(4) + bytes(65535)
        opened = []
        for _ in range(4):
            reader, writer = await world.dial(number, tls=False)
            writer.write(UPGRADE.replace("{host}", f"ws.example:{port}").encode())
            await reader.readuntil(b"\r\n\r\n")
            opened.append((reader, writer))
        for index, (reader, writer) in enumerate(opened[:3]):
            with contextlib.suppress(ConnectionError):
                writer.write(fragment + (b"\x00" + fragment[1:]) * 5)
                writer.write(b"\x89\x80" + bytes(4))  # its answer comes when all before it was read
                await writer.drain()
                assert (await reader.read(2)).startswith(b"\x89") is (index < 2)
        opened[3][1].write(masked(b"small"))
        assert await opened[3][0].readexactly(7) == b"\x81\x05small"
        assert await world.spine.wait_for(Reason.INTERRUPTED)
        assert [record.reason for record in world.spine.of(Action.WEBSOCKET)].count(Reason.INTERRUPTED) == 1

    proxied(scenario, message_bytes=MEGABYTE, messages_bytes=MEGABYTE)


def test_9_a_trickled_head_holds_nothing(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False)
        started = time.monotonic()
        for octet in b"GET / HTTP/1.1\r\nHost: a.example\r\nX: " + b"x" * 1000:
            if writer.is_closing() or reader.exception() or reader.at_eof():
                break
            writer.write(bytes([octet]))
            await asyncio.sleep(0.05)
        assert time.monotonic() - started < 5
        assert (await world.spine.wait_for(Reason.HEADER_TIMEOUT)).effect is Effect.CUT

    proxied(scenario, head_seconds=1.0)


def test_9_failures_of_the_other_side_are_json(proxied):
    async def scenario(world: World) -> None:
        untrusted, _ = await world.echo("a.example", trusted=False)
        other_name = world.name("b.example", world.port_of((await world.echo("c.example"))[0]))
        plaintext = world.name("d.example", world.port_of((await world.plain("d.example"))[0]))
        nobody = world.name("e.example", 9)
        refused = world.name("f.example", 443)
        unknown = world.name("g.example", 443)
        world.spine.addresses["f.example"] = Resolved((), "f.example resolves to 127.0.0.1, which is refused")
        world.spine.addresses["g.example"] = Resolved(())
        for number, reason in (
            (untrusted, Reason.UPSTREAM_TLS),
            (other_name, Reason.UPSTREAM_TLS),
            (plaintext, Reason.UPSTREAM_TLS),
            (nobody, Reason.UPSTREAM_UNREACHABLE),
            (refused, Reason.ADDRESS_REFUSED),
            (unknown, Reason.RESOLVE_FAILED),
        ):
            status, body = await world.ask(number, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
            told = refusal(body)
            assert (status, told["reason"]) == (403, reason.value)
            await world.spine.settled()
            assert (world.spine.records[-1].reason, world.spine.records[-1].effect) == (reason, Effect.REFUSE)
            assert told["record"] == f"{len(world.spine.records)}-0123456789ab"

    proxied(scenario, upstream_tls_seconds=1.0)


def test_10_an_http2_client_learns_that_a_server_speaks_http1_only(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example", ("http/1.1",))
        for version in ("2", "1.1"):  # the first finds out, the next one shares a single upstream connection
            seen.connections = 0
            out, err = await world.curl(number, "--http2", "-w", " %{http_version}\n", "{url}/a", "{url}/b")
            assert out == f"GET /a HTTP/1.1 {version}\nGET /b HTTP/1.1 {version}\n", err
        assert seen.connections == 1

    proxied(scenario)


def test_11_bodies_stream_both_ways(proxied):
    size = 200 * MEGABYTE

    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(200):
            seen.body += len(await reader.readexactly(MEGABYTE))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(200):
            writer.write(bytes(MEGABYTE))
            await writer.drain()

    async def scenario(world: World) -> None:
        seen = Seen()
        port = await world.server(lambda r, w: large(r, w, seen))
        number = world.name("a.example", port)
        before = resident(world.worker.pid)
        reader, writer = await world.dial(number, tls=False)
        writer.write(f"POST / HTTP/1.1\r\nHost: a.example:{port}\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(200):
            writer.write(bytes(MEGABYTE))
            await writer.drain()
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        received = 0
        while received < size:
            received += len(await reader.read(MEGABYTE))
        assert seen.body == size
        assert resident(world.worker.pid) - before < 60 * MEGABYTE
        await world.spine.settled()
        (record,) = world.spine.of(Action.HTTP)
        assert record.http is not None and (record.http.request_bytes, record.http.response_bytes) == (size, size)

    proxied(scenario, policy=ANY)


def test_11_server_sent_events_are_not_held_back(proxied):
    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, go: asyncio.Event) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
        await go.wait()
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    async def scenario(world: World) -> None:
        go = asyncio.Event()
        port = await world.server(lambda r, w: events(r, w, go), world.pki.context("a.example", ("http/1.1",)))
        number = world.name("a.example", port)
        reader, writer = await world.dial(number)
        writer.write(f"GET / HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n".encode())
        await reader.readuntil(b"data: 1\n\n\r\n")  # while the server still waits
        go.set()
        await reader.readuntil(b"data: 2\n\n\r\n0\r\n\r\n")

    proxied(scenario)
