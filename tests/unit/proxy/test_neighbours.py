"""Another sandbox, as the worker reaches it: over a socket that the agent gives, and never by dialling."""

from __future__ import annotations

import asyncio
import socket

import pytest

from stockade.proxy.spine import Unreached
from stockade.types import Action, Effect, Reason

from .conftest import FakePolicy, Seen, World, answer_http1
from .test_inbound import Ends, Open, said

DB = "db.sandbox.stockade.internal"
REQUEST = "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"
TCP = FakePolicy(relay=frozenset({DB}), tcp=True)


async def behind(world: World) -> tuple[int, Seen]:
    """A server whom only the agent can dial; the destination, and what the server sees."""
    seen = Seen()
    world.spine.behind[DB] = await world.server(lambda r, w: answer_http1(r, w, seen))
    return world.name(DB, 8080), seen


def test_a_request_goes_through_the_socket_that_the_agent_gives(proxied):
    async def scenario(world: World) -> None:
        number, seen = await behind(world)
        for _ in range(20):
            assert (await world.ask(number, REQUEST, tls=False))[0] == 200
        assert len(seen.heads) == 20 and world.spine.resolved == [], "no name was looked up"
        await world.spine.settled()
        assert {record.http.status for record in world.spine.of(Action.HTTP)} == {200}

    proxied(scenario)


def test_a_relay_does_too(proxied):
    async def scenario(world: World) -> None:
        number, seen = await behind(world)
        assert (await world.ask(number, REQUEST, tls=False, relay=True))[0] == 200
        assert len(seen.heads) == 1 and world.spine.resolved == []

    proxied(scenario, policy=TCP)


@pytest.mark.parametrize("reason", [Reason.SOURCE_REFUSED, Reason.UPSTREAM_UNREACHABLE])
def test_what_the_agent_says_instead_is_answered_and_recorded(proxied, reason):
    async def scenario(world: World) -> None:
        number = world.name(DB, 8080)
        world.spine.behind[DB] = Unreached(reason, "it is so")
        status, body = await world.ask(number, REQUEST, tls=False)
        assert status == 403 and reason.value.encode() in body and b"it is so" in body
        await world.spine.settled()
        (record,) = world.spine.of(Action.HTTP)
        assert (record.effect, record.reason) == (Effect.REFUSE, reason)

    proxied(scenario)


def test_each_socket_ends_where_it_was_asked_for(proxied):
    """Answers and commands bring descriptors along on one channel, many at once: none is taken for another's."""

    async def scenario(world: World) -> None:
        number, seen = await behind(world)
        loop = asyncio.get_running_loop()
        ends = [Ends() for _ in range(20)]
        carried = []

        async def ask() -> int:
            return (await world.ask(number, REQUEST, tls=False))[0]

        asking = []
        for index, each in enumerate(ends):
            asking.append(asyncio.create_task(ask()))
            carried.append(each.carry(world))
            if index % 5 == 0:
                await asyncio.sleep(0)
        for index, each in enumerate(ends):
            await loop.sock_sendall(each.peer, b"%02d" % index)
        assert [await said(each.listener, 2) for each in ends] == [b"%02d" % index for index in range(20)]
        assert await asyncio.gather(*asking) == [200] * 20 and len(seen.heads) == 20
        for each in ends:
            each.peer.close()
            each.listener.close()
        assert {passed.sent for passed in await asyncio.gather(*carried)} == {2}

    proxied(scenario, policy=Open())


def test_a_socket_that_comes_too_late_is_closed(proxied):
    async def scenario(world: World) -> None:
        number, _ = await behind(world)
        world.spine.hold_resolve = asyncio.Event()
        peer, given = socket.socketpair()
        world.spine.behind[DB] = given
        _, writer = await world.dial(number, tls=False)
        writer.write(REQUEST.format(host=DB).encode())
        await asyncio.wait_for(world.spine.reaching.wait(), 5)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        world.spine.hold_resolve.set()
        peer.setblocking(False)
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(peer, 1) == b"", "nobody holds the other end"
        peer.close()

    proxied(scenario)
