"""The L4 relay: nothing terminated, the name checked, back-pressure and half-close kept."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl

import pytest

from stockade.types import Action, Effect, Reason

from .conftest import FakePolicy, Seen, World, answer_http1

PASSTHROUGH = FakePolicy(relay=frozenset({"a.example", "b.example"}))
TCP = FakePolicy(relay=frozenset({"a.example", "b.example"}), tcp=True)
MEGABYTE = 1024 * 1024


def through(world: World) -> ssl.SSLContext:
    """What a client with a pinned root uses: the server's own certificate, not the sandbox's."""
    return ssl.create_default_context(cafile=str(world.pki.bundle))


def test_passthrough_ends_at_the_server_with_the_servers_own_certificate(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        status, _ = await world.ask(number, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n", relay=True, context=through(world))
        assert status == 200 and len(seen.heads) == 1
        assert world.spine.of(Action.HTTP) == []  # nothing was looked at

    proxied(scenario, policy=PASSTHROUGH)


def test_mutual_tls_works_through_passthrough(proxied):
    async def scenario(world: World) -> None:
        seen = Seen()
        context = world.pki.context("a.example")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(world.pki.bundle))
        number = world.name("a.example", await world.server(lambda r, w: answer_http1(r, w, seen), context))
        world.pki.context("client.example")  # writes the pair that the client loads
        client = through(world)
        client.load_cert_chain(world.pki.folder / "client.example-True-False.pem")
        assert (await world.ask(number, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n", relay=True, context=client))[0] == 200

    proxied(scenario, policy=PASSTHROUGH)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Reason.PROTOCOL_ERROR),
        (b"SSH-2.0-x\r\n", Reason.PROTOCOL_ERROR),
        (b"\x16\x03\x01\x00\x00", Reason.PROTOCOL_ERROR),
        (b"\x16\x03\x01\xff\xff\x01\x00\xff\xff" + b"x" * 100, Reason.PROTOCOL_ERROR),
        (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", Reason.PROTOCOL_ERROR),
        (b"\x16\x03\x01\x01\x00\x01\x00\x01\x00", Reason.HEADER_TIMEOUT),
        (b"", Reason.HEADER_TIMEOUT),
    ],
)
def test_passthrough_carries_nothing_but_tls(proxied, said, reason):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False, relay=True)
        writer.write(said)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        record = await world.spine.wait_for(reason)
        assert (record.action, record.effect) == (Action.CONNECT, Effect.REFUSE)
        assert seen.connections == 0

    proxied(scenario, policy=PASSTHROUGH, head_seconds=0.5)


@pytest.mark.parametrize("policy", [PASSTHROUGH, TCP], ids=["passthrough", "tcp"])
def test_another_server_name_is_refused_before_a_byte_leaves(proxied, policy):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await world.dial(number, sni="evil.example", relay=True, context=through(world))
        await world.spine.wait_for(Reason.SNI_MISMATCH)
        assert seen.heads == []

    proxied(scenario, policy=policy)


def test_tcp_carries_a_server_that_speaks_first_and_half_closes(proxied):
    async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        said = await reader.read()  # to the client's half-close
        writer.write(b"heard " + said)
        writer.close()

    async def scenario(world: World) -> None:
        number = world.name("a.example", await world.server(banner))
        reader, writer = await world.dial(number, tls=False, relay=True)
        assert await reader.readline() == b"220 ready\r\n"
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"heard hello"

    proxied(scenario, policy=TCP)


def test_tcp_carries_a_client_that_speaks_first(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.plain("a.example")
        assert (await world.ask(number, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n", tls=False, relay=True))[0] == 200

    proxied(scenario, policy=TCP)


def test_a_slow_reader_slows_the_server(proxied):
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(MEGABYTE))
                await writer.drain()
                seen.body += MEGABYTE

    async def scenario(world: World) -> None:
        seen = Seen()
        number = world.name("a.example", await world.server(lambda r, w: endless(r, w, seen)))
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((f"127.0.0.{number}", 0))
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", world.ports[1]))
        await asyncio.sleep(1)
        assert seen.body < 40 * MEGABYTE
        sock.close()

    proxied(scenario, policy=TCP)


def test_a_reload_cuts_a_relay_and_records_its_bytes(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False, relay=True)
        assert (await world.exchange(number, reader, writer, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"))[0] == 200
        await world.reload(FakePolicy(hosts=frozenset(), generation=2))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        (record,) = world.spine.records
        assert (record.action, record.effect, record.reason, record.generation) == (Action.CONNECT, Effect.CUT, Reason.POLICY_CHANGED, 2)
        assert record.detail["bytes_sent"] == len(f"GET /x HTTP/1.1\r\nHost: a.example:{world.port_of(number)}\r\n\r\n")
        assert int(str(record.detail["bytes_received"])) > 0

    proxied(scenario, policy=TCP)


@pytest.mark.parametrize("policy", [PASSTHROUGH, TCP], ids=["passthrough", "tcp"])
def test_a_reload_cuts_a_relay_that_has_not_said_anything_yet(proxied, policy: FakePolicy):
    """It was admitted by the old policy; its first flight comes after the new one."""

    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False, relay=True)
        while not world.spine.identified:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # admitted, and waiting for what it says
        await world.reload(FakePolicy(hosts=frozenset(), generation=2))
        record = await world.spine.wait_for(Reason.POLICY_CHANGED)
        assert (record.effect, record.generation) == (Effect.CUT, 2)
        with contextlib.suppress(ConnectionError):
            writer.write(hello("a.example") if not policy.tcp else b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n")
            await writer.drain()
            assert await reader.read() == b""
        await asyncio.sleep(0.1)
        assert seen.heads == [] and len(world.spine.records) == 1

    proxied(scenario, policy=policy)


def test_a_reload_while_a_server_is_dialled_lets_nothing_through(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        world.spine.hold_resolve = asyncio.Event()
        reader, writer = await world.dial(number, tls=False, relay=True)
        writer.write(hello("a.example"))
        while not world.spine.resolved:
            await asyncio.sleep(0.01)
        await world.reload(FakePolicy(hosts=frozenset(), generation=2))
        world.spine.hold_resolve.set()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await asyncio.sleep(0.1)
        assert seen.heads == [] and [record.reason for record in world.spine.records] == [Reason.POLICY_CHANGED]

    proxied(scenario, policy=PASSTHROUGH)


def hello(name: str) -> bytes:
    """A ClientHello for a name."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_a_plain_relay_is_cut_when_its_host_now_wants_tls(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False, relay=True)
        assert (await world.exchange(number, reader, writer, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"))[0] == 200
        await world.reload(dataclasses.replace(TCP, generation=2))
        assert (await world.exchange(number, reader, writer, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"))[0] == 200
        await world.reload(dataclasses.replace(PASSTHROUGH, generation=3))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        (record,) = world.spine.records
        assert (record.effect, record.reason) == (Effect.CUT, Reason.POLICY_CHANGED)

    proxied(scenario, policy=TCP)


def test_a_host_that_is_now_inspected_is_cut_not_relayed_on(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False, relay=True)
        assert (await world.exchange(number, reader, writer, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"))[0] == 200
        await world.reload(FakePolicy(generation=2))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        # and the next connection is inspected, whatever the kernel's verdict on it was
        assert (await world.ask(number, "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n", tls=False, relay=True))[0] == 403

    proxied(scenario, policy=TCP)


def test_an_unreachable_server_is_recorded(proxied):
    async def scenario(world: World) -> None:
        number = world.name("a.example", 9)
        reader, _ = await world.dial(number, tls=False, relay=True)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await world.spine.wait_for(Reason.UPSTREAM_UNREACHABLE)

    proxied(scenario, policy=TCP)
