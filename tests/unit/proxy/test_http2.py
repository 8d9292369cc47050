"""HTTP/2 towards the sandbox, to servers of either version."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from stockade.proxy.layers import EMPTY_FRAMES
from stockade.types import Action, Effect, Reason

from .conftest import FakePolicy, Seen, World, refusal
from .h2client import H2Client


async def h2_client(world: World, number: int) -> H2Client:
    context = world.trust
    context.set_alpn_protocols(["h2"])
    return H2Client(*await world.dial(number, context=context))


def test_every_request_of_a_connection_is_judged_by_itself(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        client, here = await h2_client(world, number), f"a.example:{world.port_of(number)}"
        assert await client.ask("GET", here, "/one") == (200, b"GET /one HTTP/1.1")
        status, body = await client.ask("GET", "b.example", "/two")
        assert status == 403 and refusal(body)["reason"] == "host_mismatch"
        status, body = await client.ask("POST", here, "/three")
        assert status == 403 and refusal(body)["level"] == "method"
        assert await client.ask("HEAD", here, "/four") == (200, b"")
        assert (await client.ask("GET", here, "/a/../../b"))[0] == 403
        assert [head.split(b"\r\n")[0] for head in seen.heads] == [b"GET /one HTTP/1.1", b"HEAD /four HTTP/1.1"]
        await world.spine.settled()
        assert [record.reason for record in world.spine.of(Action.HTTP)] == [
            Reason.RULE_ALLOW, Reason.HOST_MISMATCH, Reason.NO_RULE, Reason.RULE_ALLOW, Reason.PATH_INVALID,
        ]  # fmt: skip

    proxied(scenario)


def test_a_body_without_length_goes_framed_to_an_http1_server(proxied):
    """Unframed, its bytes would be read as the next request: one that nobody judged."""

    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        client, here = await h2_client(world, number), f"a.example:{world.port_of(number)}"
        stream = client.open("POST", here, "/ok", end=False)
        client.send(stream, b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n", end=True)
        assert await client.answer(stream) == (200, b"POST /ok HTTP/1.1")
        await asyncio.sleep(0.1)
        assert len(seen.heads) == 1 and seen.body == 43

    proxied(scenario, policy=FakePolicy(allow=(("POST", "/ok"),)))


def test_each_grpc_call_is_a_post_of_its_path(proxied):
    """One connection, many calls: none is let through by another."""
    policy = FakePolicy(allow=(("POST", "/shop.Cart/Read"),))
    message = bytes(5) + b"message"  # not compressed, length: the proxy does not read it

    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        client, here = await h2_client(world, number), f"a.example:{world.port_of(number)}"
        for call, status in (("/shop.Cart/Read", 200), ("/shop.Cart/Delete", 403), ("/grpc.reflection.v1.ServerReflection/Info", 403)):
            stream = client.open("POST", here, call, ("content-type", "application/grpc"), ("te", "trailers"), end=False)
            client.send(stream, message, end=True)
            assert (await client.answer(stream))[0] == status, call
        assert [head.split(b" ")[1] for head in seen.heads] == [b"/shop.Cart/Read"] and seen.body == len(message)
        assert (await client.ask("GET", here, "/shop.Cart/Read"))[0] == 403

    proxied(scenario, policy=policy)


def test_smuggling_through_header_values_and_lengths(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        here = f"a.example:{world.port_of(number)}"
        for extra in (
            ("x", "a\r\nHost: b.example"),
            ("transfer-encoding", "chunked"),
            ("connection", "upgrade"),
            ("content-length", "5"),
            ("X-Upper", "1"),
            ("host", "b.example"),
        ):
            client = await h2_client(world, number)
            status, _ = await client.ask("GET", here, "/x", extra)
            assert status != 200, extra
        client = await h2_client(world, number)
        stream = client.open("GET", here, "/x", ("content-length", "1"), end=False)
        client.send(stream, b"GET /evil HTTP/1.1\r\n\r\n", end=True)
        assert (await client.answer(stream))[0] != 200
        client = await h2_client(world, number)
        assert (await client.ask("GET /evil HTTP/1.1\r\nX: ", here, "/x"))[0] != 200
        client = await h2_client(world, number)
        assert (await client.ask("GET", here, "/x HTTP/1.1\r\nX: y"))[0] != 200
        assert all(head.startswith(b"GET /x HTTP/1.1\r\n") for head in seen.heads) and seen.body <= 1

    proxied(scenario)


def test_an_internationalised_host_is_its_a_label_and_nothing_that_looks_like_it(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("xn--bcher-kva.example")
        port = world.port_of(number)
        for said in ("xn--bcher-kva.example.evil.example", "bücher.example", "xn--bcher-\u212ava.example"):  # KELVIN SIGN: lower-cased, k
            client = await h2_client(world, number)
            assert (await client.ask("GET", f"{said}:{port}", "/"))[0] != 200, said
        assert seen.connections == 0
        client = await h2_client(world, number)
        assert await client.ask("GET", f"xn--bcher-kva.example:{port}", "/one") == (200, b"GET /one HTTP/1.1")
        assert len(seen.heads) == 1

    proxied(scenario)


def test_streams_run_side_by_side(proxied):
    async def scenario(world: World) -> None:
        number, _seen = await world.echo("a.example")
        client, here = await h2_client(world, number), f"a.example:{world.port_of(number)}"
        streams = [client.open("GET", here, f"/{index}") for index in range(20)]
        for index, stream in enumerate(streams):
            assert await client.answer(stream) == (200, b"GET /%d HTTP/1.1" % index)

    proxied(scenario)


def test_curl_speaks_http2_to_an_http2_server(proxied):
    import h2.config
    import h2.connection
    import h2.events

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        seen.connections += 1
        protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        protocol.initiate_connection()
        writer.write(protocol.data_to_send())
        while data := await reader.read(65536):
            for event in protocol.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    path = dict(event.headers)[":path"]
                    seen.heads.append(path.encode())
                    protocol.send_headers(event.stream_id, [(":status", "200"), ("content-type", "text/plain")])
                    protocol.send_data(event.stream_id, path.encode(), end_stream=False)
                    protocol.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)  # trailers
            writer.write(protocol.data_to_send())

    async def scenario(world: World) -> None:
        seen = Seen()
        port = await world.server(lambda r, w: server(r, w, seen), world.pki.context("a.example", ("h2",)))
        number = world.name("a.example", port)
        out, err = await world.curl(number, "--http2", "-w", " %{http_version}\n", "{url}/one", "{url}/two%2e")
        assert out == "/one 2\n/two. 2\n", err
        assert seen.connections == 1

    proxied(scenario)


def test_a_window_that_stays_closed_does_not_fill_the_worker(proxied):
    from .test_silent_failures import MEGABYTE, resident

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        try:
            for _ in range(1024):
                writer.write(bytes(MEGABYTE))
                await writer.drain()
                seen.body += MEGABYTE
        except ConnectionError:
            pass

    async def scenario(world: World) -> None:
        seen = Seen()
        port = await world.server(lambda r, w: endless(r, w, seen), world.pki.context("a.example", ("http/1.1",)))
        number = world.name("a.example", port)
        before = resident(world.worker.pid)
        client = await h2_client(world, number)
        client.h2.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]
        stream = client.open("GET", f"a.example:{port}", "/")
        while len(client.body[stream]) < 65535:
            await client.read()
        await asyncio.sleep(1)
        assert seen.body < 40 * MEGABYTE  # what the sockets hold
        assert resident(world.worker.pid) - before < 30 * MEGABYTE
        client.writer.close()
        await world.spine.settled()
        assert world.spine.of(Action.HTTP)[0].reason is Reason.INTERRUPTED

    proxied(scenario)


def test_a_reload_cuts_what_it_denies_and_leaves_the_rest(proxied):
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await asyncio.sleep(60)

    async def scenario(world: World) -> None:
        port = await world.server(slow, world.pki.context("a.example", ("http/1.1",)))
        number = world.name("a.example", port)
        kept, _ = await world.echo("b.example")
        here: Any = f"a.example:{port}"
        client, other = await h2_client(world, number), await world.dial(kept)
        stream = client.open("GET", here, "/download")
        while len(client.body[stream]) < 5:
            await client.read()
        assert (await world.exchange(kept, *other, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"))[0] == 200
        await world.reload(FakePolicy(allow=(("GET", "/x"),), generation=2))
        try:
            while await client.read():
                pass
        except ConnectionError:
            pass
        await world.spine.settled()
        cut = next(record for record in world.spine.of(Action.HTTP) if record.effect is Effect.CUT)
        assert cut.reason is Reason.POLICY_CHANGED and cut.http is not None and cut.http.response_bytes == 5
        assert (await world.exchange(kept, *other, "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"))[0] == 200  # the same connection
        status, body = await world.exchange(kept, *other, "GET /y HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert status == 403 and refusal(body)["level"] == "path"

    proxied(scenario)


def test_a_reload_ends_the_stream_that_it_denies_and_the_others_of_the_connection_go_on(proxied):
    """In-flight requests that stay allowed finish, also when they share a connection with one that does not."""
    gone = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        if b"/denied" in head:
            assert await reader.read() == b""
            gone.set()
            return
        await gone.wait()
        await asyncio.sleep(0.2)
        writer.write(b"67890")

    async def scenario(world: World) -> None:
        port = await world.server(slow, world.pki.context("a.example", ("http/1.1",)))
        number = world.name("a.example", port)
        here: Any = f"a.example:{port}"
        client = await h2_client(world, number)
        kept, denied = client.open("GET", here, "/x/kept"), client.open("GET", here, "/denied")
        while len(client.body[kept]) < 5 or len(client.body[denied]) < 5:
            await client.read()
        await world.reload(FakePolicy(allow=(("GET", "/x"),), generation=2))
        assert await client.answer(denied) == (200, b"12345") and denied in client.over
        assert await client.answer(kept) == (200, b"1234567890")
        assert (await client.ask("GET", here, "/denied"))[0] == 403, "the connection lives"
        await world.spine.settled()
        ended = {record.http.path: record for record in world.spine.of(Action.HTTP) if record.http and record.http.status == 200}
        assert (ended["/denied"].effect, ended["/denied"].reason) == (Effect.CUT, Reason.POLICY_CHANGED)
        assert (ended["/x/kept"].effect, ended["/x/kept"].reason) == (Effect.PASS, Reason.RULE_ALLOW)

    proxied(scenario)


def test_a_stream_that_is_still_dialling_does_not_get_through(proxied):
    """It cannot be ended by itself before its dial is over: the whole connection is cut."""

    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        here: Any = f"a.example:{world.port_of(number)}"
        world.spine.hold_resolve = asyncio.Event()
        client = await h2_client(world, number)
        streams = [client.open("GET", here, path) for path in ("/x", "/denied")]
        while not world.spine.resolved or len(world.spine.records) < 2:
            await asyncio.sleep(0.01)
        await world.reload(FakePolicy(allow=(("GET", "/x"),), generation=2))
        world.spine.hold_resolve.set()
        with contextlib.suppress(ConnectionError):
            for stream in streams:
                assert await client.answer(stream) == (0, b"")
        await asyncio.sleep(0.2)
        assert seen.heads == []

    proxied(scenario)


def test_an_empty_frame_does_not_end_a_body_on_an_http1_server(proxied):
    """To a chunked body a chunk of nothing is its end: what comes after it would be read as another request, which nobody judged."""

    async def scenario(world: World) -> None:
        arrived = bytearray()

        async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while not arrived.endswith(b"0\r\n\r\n") or b"last" not in arrived:
                    arrived.extend(await reader.read(65536))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        number = world.name("a.example", await world.server(keep, world.pki.context("a.example", ("http/1.1",))))
        client, here = await h2_client(world, number), f"a.example:{world.port_of(number)}"
        stream = client.open("POST", here, "/ok", end=False)
        for data in (b"first", b"", b"last"):
            client.send(stream, data)
        client.send(stream, b"", end=True)
        assert (await client.answer(stream))[0] == 200
        assert arrived.partition(b"\r\n\r\n")[2] == b"5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n"

    proxied(scenario, policy=FakePolicy(allow=(("POST", "/ok"),)))


def test_empty_frames_among_others_end_nothing(proxied):
    """A channel that is open for days has some: what counts is more of them than of the others."""

    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        client, here = await h2_client(world, number), f"a.example:{world.port_of(number)}"
        stream = client.open("POST", here, "/ok", end=False)
        for _ in range(EMPTY_FRAMES + 1):
            client.send(stream, b"x")
            client.send(stream, b"")
        client.send(stream, b"", end=True)
        assert (await client.answer(stream))[0] == 200
        assert seen.body == EMPTY_FRAMES + 1

    proxied(scenario, policy=FakePolicy(allow=(("POST", "/ok"),)))


def test_empty_frames_without_end_are_not_listened_to(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        client, here = await h2_client(world, number), f"a.example:{world.port_of(number)}"
        stream = client.open("POST", here, "/ok", end=False)
        with contextlib.suppress(ConnectionError):
            for _ in range(EMPTY_FRAMES + 1):
                client.send(stream, b"")
            await client.answer(stream)
        assert client.gone
        record = await world.spine.wait_for(Reason.PROTOCOL_ERROR)
        assert record.detail["error"] == "too many empty frames"

    proxied(scenario, policy=FakePolicy(allow=(("POST", "/ok"),)))
