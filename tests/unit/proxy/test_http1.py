"""HTTP/1.1 through a real worker: what is allowed goes out canonical, what is not is answered with a 403 that says why."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import pytest

from stockade.proxy.upstream_http1 import INTERIM
from stockade.types import Action, Effect, Outcome, Reason, Record

from .conftest import FakePolicy, Seen, World, read_answer, refusal

GET = "GET /x HTTP/1.1\r\nHost: {host}\r\n"
ANY = FakePolicy(allow=tuple((method, "/") for method in ("GET", "POST", "PUT", "HEAD")))


def test_an_allowed_get_reaches_the_server_and_its_record_is_complete(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        status, body = await world.ask(number, "GET /x/../y?q=1 HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert (status, body) == (200, b"GET /y?q=1 HTTP/1.1")
        await world.spine.settled()
        (record,) = world.spine.of(Action.HTTP)
        assert (record.outcome, record.effect, record.reason) == (Outcome.ALLOW, Effect.PASS, Reason.RULE_ALLOW)
        assert record.http is not None and (record.http.method, record.http.path, record.http.status) == ("GET", "/y", 200)
        assert record.http.response_bytes == len(body)
        assert record.destination is not None and record.destination.host == "a.example"
        assert (record.pid, record.exec_id, record.ancestry) == (4242, 12, ("/usr/bin/bash",))

    proxied(scenario)


def test_a_denied_method_is_a_json_403_and_nothing_is_dialled(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        reader, writer = await world.dial(number)
        status, body = await world.exchange(number, reader, writer, "DELETE /y HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert status == 403
        answer = refusal(body)
        assert (answer["level"], answer["reason"], answer["binary"], answer["method"]) == ("method", "no_rule", "curl", "DELETE")
        assert (answer["host"], answer["path"]) == ("a.example", "/y")
        assert seen.connections == 0 and world.spine.resolved == []
        status, _ = await world.exchange(number, reader, writer, GET + "\r\n")  # the connection lives on
        assert status == 200
        (refused, _) = world.spine.of(Action.HTTP)
        assert (refused.outcome, refused.effect, refused.enforced) == (Outcome.DENY, Effect.REFUSE, True)

    proxied(scenario)


def test_observe_lets_pass_what_the_policy_denies_and_says_so(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        assert (await world.ask(number, "POST /y HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"))[0] == 200
        assert (await world.ask(number, "GET /y HTTP/1.1\r\nHost: other\r\n\r\n"))[0] == 403  # never lifted
        await world.spine.settled()
        observed, always = world.spine.of(Action.HTTP)
        assert (observed.outcome, observed.effect, observed.enforced) == (Outcome.DENY, Effect.PASS, False)
        assert (always.reason, always.enforced) == (Reason.HOST_MISMATCH, True)

    proxied(scenario, policy=FakePolicy(observe=True))


def test_an_unwritable_trail_denies(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        world.spine.broken = True
        status, body = await world.ask(number, GET + "\r\n")
        assert status == 403 and refusal(body)["reason"] == "audit_unavailable"
        assert seen.connections == 0
        world.spine.broken = False
        assert (await world.ask(number, GET + "\r\n"))[0] == 200

    proxied(scenario)


SMUGGLED = {
    "te.cl": "POST /x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "cl.cl": "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "cl list": "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0, 0\r\n\r\n",
    "cl sign": "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: +5\r\n\r\nhello",
    "cl hex": "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x5\r\n\r\nhello",
    "te te": "POST /x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "te odd": "POST /x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "te space": "POST /x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "te vtab": "POST /x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "te in 1.0": "POST /x HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare lf": "GET /x HTTP/1.1\nHost: {host}\n\n",
    "bare lf in a header": "GET /x HTTP/1.1\r\nHost: {host}\nX: y\r\n\r\n",
    "bare cr": "GET /x HTTP/1.1\r\nHost: {host}\rX: y\r\n\r\n",
    "obs-fold": "GET /x HTTP/1.1\r\nHost: {host}\r\nX: y\r\n Z: folded\r\n\r\n",
    "first line folded": "GET /x HTTP/1.1\r\n Host: {host}\r\n\r\n",
    "nul": "GET /x HTTP/1.1\r\nHost: {host}\r\nX: \0\r\n\r\n",
    "no colon": "GET /x HTTP/1.1\r\nHost: {host}\r\nX\r\n\r\n",
    "http/0.9": "GET /x\r\n\r\n",
    "http/2 on http/1": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/1.2": "GET /x HTTP/1.2\r\nHost: {host}\r\n\r\n",
    "two spaces": "GET  /x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "tab": "GET\t/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "two hosts": GET + "Host: {host}\r\n\r\n",
    "no host": "GET /x HTTP/1.1\r\n\r\n",
    "another host": "GET /x HTTP/1.1\r\nHost: b.example\r\n\r\n",
    "another port": "GET /x HTTP/1.1\r\nHost: a.example:1\r\n\r\n",
    "userinfo": "GET /x HTTP/1.1\r\nHost: a.example@b.example\r\n\r\n",
    "absolute": "GET http://b.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "connect": "CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n",
    "connect to itself": "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "lower case": "get /x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "trace": "TRACE /x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "asterisk": "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "override": GET + "X-HTTP-Method-Override: DELETE\r\n\r\n",
    "override with underscores": GET + "X_HTTP_Method_Override: DELETE\r\n\r\n",
    "original url": GET + "X-Original-URL: /admin\r\n\r\n",
    "rewrite url": GET + "X-Rewrite-URL: /admin\r\n\r\n",
    "forwarded host": GET + "X-Forwarded-Host: b.example\r\n\r\n",
    "_method": "POST /x?a=1&_method=DELETE HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n",
    "another upgrade": GET + "Connection: upgrade\r\nUpgrade: tcp\r\n\r\n",
    "climbing": "GET /a/%2e%2e/%2e%2e/b HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "backslash": "GET /a\\..\\b HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "overlong": "GET /%c0%ae%c0%ae/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "huge": GET + "X: " + "x" * 70000 + "\r\n\r\n",
}


def test_no_head_that_two_parsers_could_read_differently_gets_through(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        for name, said in SMUGGLED.items():
            reader, writer = await world.dial(number, tls=False)
            status, body = await world.exchange(number, reader, writer, said)
            assert status == 403 and refusal(body)["error"], name
            writer.close()
        assert seen.connections == 0
        assert len(world.spine.records) == len(SMUGGLED)  # one record for each

    proxied(scenario, policy=ANY)


def test_after_a_malformed_head_the_connection_is_closed(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False)
        said = SMUGGLED["te.cl"] + GET + "\r\n"
        assert (await world.exchange(number, reader, writer, said))[0] == 403
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert seen.heads == []

    proxied(scenario, policy=ANY)


def test_an_odd_chunked_body_ends_the_connection(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        for body in ("zz\r\n", "5;ext=\n\r\nhello\r\n0\r\n\r\n", "5 ;a=b\r\nhello\r\n0\r\n\r\n", "-1\r\n\r\n", "5\r\nhelloXX0\r\n\r\n"):
            reader, writer = await world.dial(number, tls=False)
            writer.write(
                f"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /evil HTTP/1.1\r\n\r\n".encode()
            )
            try:
                async with asyncio.timeout(3):
                    assert b"/evil" not in await reader.read(), body
            except ConnectionError:
                pass
        assert all(b"/evil" not in head for head in seen.heads)

    proxied(scenario, policy=ANY)


def test_chunk_extensions_are_not_sent_on(proxied):
    """What stands behind a chunk's size means nothing to most and ends the line for some."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    received: list[bytes] = []

    async def scenario(world: World) -> None:
        number = world.name("a.example", await world.server(answer))
        for extension in (";a=b", ";a", ';a="x y"', ";" + "x" * 200):
            received.clear()
            said = f"POST /x HTTP/1.1\r\nHost: {{host}}\r\nTransfer-Encoding: chunked\r\n\r\n5{extension}\r\nhello\r\n0{extension}\r\n\r\n"
            assert (await world.ask(number, said, tls=False))[0] == 200, extension
            assert received[0].partition(b"\r\n\r\n")[2] == b"5\r\nhello\r\n0\r\n\r\n", extension

    proxied(scenario, policy=ANY)


def test_trailers_are_dropped_on_both_sides(proxied):
    """mitmproxy raises on any: a request of this kind must neither end the connection nor leave its record open."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n")
        await writer.drain()

    received: list[bytes] = []

    async def scenario(world: World) -> None:
        number = world.name("a.example", await world.server(answer))
        reader, writer = await world.dial(number, tls=False)
        writer.write(b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
        said = await reader.readuntil(b"0\r\n\r\n")
        assert b"200 OK" in said and b"body" in said and b"X-Sum" not in said
        assert b"hello" in received[0] and b"X-Sum" not in received[0]

    proxied(scenario, policy=ANY)


def test_pipelined_requests_are_each_judged(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False)
        status, _ = await world.exchange(number, reader, writer, GET + "\r\n" + "DELETE /y HTTP/1.1\r\nHost: {host}\r\n\r\n" + GET + "\r\n")
        assert status == 200
        assert [(await read_answer(reader))[0] for _ in range(2)] == [403, 200]
        assert len(seen.heads) == 2

    proxied(scenario)


def test_an_offer_of_h2c_is_dropped_and_the_request_served_as_http1(proxied):
    """Java's HttpClient offers h2c on every plain request; refusing would break it, forwarding would open a tunnel."""

    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        offer = (
            GET + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n\r\n"
        )
        assert (await world.ask(number, offer, tls=False))[0] == 200
        assert b"pgrade" not in seen.heads[0] and b"HTTP2" not in seen.heads[0]

    proxied(scenario)


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_an_upload_arrives_whole(proxied, expect):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        reader, writer = await world.dial(number)
        writer.write(f"PUT /f HTTP/1.1\r\nHost: a.example\r\n{expect}Content-Length: 300000\r\n\r\n".encode())
        if expect:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(bytes(300000))
        assert (await read_answer(reader))[0] == 200
        assert seen.body == 300000
        await world.spine.settled()
        (record,) = world.spine.of(Action.HTTP)
        assert record.http is not None and record.http.request_bytes == 300000

    proxied(scenario, policy=ANY)


def test_localhost_is_the_host_under_each_of_its_names(proxied):
    async def scenario(world: World) -> None:
        plain, seen = await world.plain("localhost")
        for host in ("localhost", "127.0.0.1", "[::1]"):
            said = f"GET /x HTTP/1.1\r\nHost: {host}:{world.port_of(plain)}\r\n\r\n"
            assert (await world.ask(plain, said, tls=False))[0] == 200
        assert len(seen.heads) == 3

    proxied(scenario)


def test_a_client_that_leaves_in_mid_answer_is_recorded(proxied):
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        seen.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        assert await reader.read() == b""
        seen.connections -= 1

    async def scenario(world: World) -> None:
        seen = Seen()
        number = world.name("a.example", await world.server(lambda r, w: slow(r, w, seen)))
        reader, writer = await world.dial(number, tls=False)
        writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        await reader.readuntil(b"12345")
        writer.close()
        await world.spine.settled()
        (record,) = world.spine.of(Action.HTTP)
        assert record.reason is Reason.INTERRUPTED
        assert record.http is not None and (record.http.status, record.http.response_bytes) == (200, 5)
        async with asyncio.timeout(5):
            while seen.connections:
                await asyncio.sleep(0.01)

    proxied(scenario)


def test_a_client_that_leaves_while_it_is_judged_is_not_an_upstream_error(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        begin, reached = world.spine.begin, asyncio.Event()

        async def slow(sandbox: int, record: Record) -> int:
            reached.set()
            await asyncio.sleep(0.3)
            return await begin(sandbox, record)

        world.spine.begin = slow  # type: ignore[method-assign]
        _, writer = await world.dial(number, tls=False)
        writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        await reached.wait()
        writer.transport.abort()
        record = await world.spine.wait_for(Reason.INTERRUPTED)
        assert record.action is Action.HTTP and seen.heads == []

    proxied(scenario)


def test_redirects_are_passed_on_not_followed(proxied):
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://denied.example/\r\nContent-Length: 0\r\n\r\n")

    async def scenario(world: World) -> None:
        number = world.name("a.example", await world.server(redirect))
        assert (await world.ask(number, GET + "\r\n", tls=False))[0] == 302
        assert world.spine.resolved == ["a.example"]

    proxied(scenario)


def test_a_compressed_body_passes_as_it_came(proxied):
    """Unpacking would be the bomb's work; nothing here looks inside."""
    packed = gzip.compress(bytes(50 * 1024 * 1024))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        received.append(await reader.readexactly(len(packed)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)

    received: list[bytes] = []

    async def scenario(world: World) -> None:
        number = world.name("a.example", await world.server(answer))
        reader, writer = await world.dial(number, tls=False)
        head = f"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        writer.write(head.encode() + packed)
        assert await read_answer(reader) == (200, packed)
        assert received == [packed]
        await world.spine.settled()
        (record,) = world.spine.of(Action.HTTP)
        assert record.http is not None and (record.http.request_bytes, record.http.response_bytes) == (len(packed), len(packed))

    proxied(scenario, policy=ANY)


def test_a_body_that_trickles_holds_up_nobody_else(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.plain("a.example")
        slow = [await world.dial(number, tls=False) for _ in range(20)]
        for _, writer in slow:
            writer.write(b"POST /slow HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\na")
        assert (await world.ask(number, GET + "\r\n", tls=False))[0] == 200  # while twenty others wait for an octet
        for reader, writer in slow:
            writer.write(b"b")
            assert (await read_answer(reader))[0] == 200
        assert seen.body == 40

    proxied(scenario, policy=ANY)


@pytest.mark.parametrize("size", [1, 1 << 16])
def test_what_a_server_says_before_its_answer_is_not_its_answer(proxied, size):
    said = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" * 2
        + b"HTTP/1.1  103 Early Hints\r\n\r\nHTTP/1.1 \t100\tContinue\r\n\r\n" * (INTERIM // 2 - 2)  # as mitmproxy takes a status line
        + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                for at in range(0, len(said), size):
                    writer.write(said[at : at + size])
                    await writer.drain()

    async def scenario(world: World) -> None:
        number = world.name("a.example", await world.server(answer))
        reader, writer = await world.dial(number, tls=False)
        for _ in range(2):
            assert await world.exchange(number, reader, writer, GET + "\r\n") == (200, b"ok")
        await world.spine.settled()
        assert [record.http.status for record in world.spine.of(Action.HTTP) if record.http is not None] == [200, 200]

    proxied(scenario)


def test_a_server_that_never_comes_to_its_answer_is_not_waited_for(proxied):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * (INTERIM + 1) + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async def scenario(world: World) -> None:
        number = world.name("a.example", await world.server(answer))
        status, body = await world.ask(number, GET + "\r\n", tls=False)
        assert status == 403 and refusal(body)["reason"] == "upstream_error" and "interim answers" in refusal(body)["error"], body
        await world.spine.settled()
        assert [record.reason for record in world.spine.of(Action.HTTP)] == [Reason.UPSTREAM_ERROR]

    proxied(scenario)


def test_an_answer_whose_head_never_ends_is_not_kept(proxied):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"X-A: " + b"a" * 60000 + b"\r\n")
                await writer.drain()

    async def scenario(world: World) -> None:
        number = world.name("a.example", await world.server(answer))
        status, body = await world.ask(number, GET + "\r\n", tls=False)
        assert status == 403 and refusal(body)["reason"] == "upstream_error" and "longer than" in refusal(body)["error"], body
        await world.spine.settled()
        assert [record.reason for record in world.spine.of(Action.HTTP)] == [Reason.UPSTREAM_ERROR]

    proxied(scenario)
