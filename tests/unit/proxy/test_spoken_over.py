"""A worker whose client's socket is spoken on by another: at a moment that the test chooses, for which it stands in for the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from stockade.kernel.abi import Speaker
from stockade.proxy import Settings, Worker
from stockade.types import Action, Decision, Effect, Outcome, Reason, Request

from .conftest import WORKER_GID, WORKER_UID, FakePolicy, Pki, World, fake_decide, origin_of, refusal, serving
from .test_silent_failures import UPGRADE, Seen, masked, websocket_echo

GET = "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"
SEVERAL = Speaker(0, 0, 0)


class Kernel:
    """What the forked worker is told, from memory that both share."""

    def __init__(self) -> None:
        self._said = mmap.mmap(-1, 1)

    def speaks(self) -> None:
        self._said[0] = 1

    def forgets(self) -> None:
        self._said[0] = 2

    def __call__(self, _client: socket.socket) -> Speaker | None:
        if self._said[0] == 2:
            raise OSError("no such option")
        return SEVERAL if self._said[0] else None


def decide(request: Request, policy: Any) -> Decision:
    """Nobody is allowed nothing; all others what the stand-in policy allows."""
    return fake_decide(request, FakePolicy(veto=True) if not request.binary.names else policy)


def spoken_over(pki: Pki, scenario: Callable[[World, Kernel], Awaitable[None]], policy: FakePolicy | None = None) -> None:
    kernel, settings = Kernel(), Settings(trust=pki.bundle, head_seconds=5)
    worker = Worker.fork(uid=WORKER_UID, gid=WORKER_GID, settings=settings, decide=decide, origin_of=origin_of, speaker_of=kernel)

    async def main() -> None:
        async with serving(worker, pki, policy or FakePolicy(), 0) as world:
            await scenario(world, kernel)

    asyncio.run(main())


def test_the_next_request_on_the_connection_is_refused(pki: Pki) -> None:
    async def scenario(world: World, kernel: Kernel) -> None:
        number, seen = await world.plain("a.example")
        reader, writer = await world.dial(number, tls=False)
        assert (await world.exchange(number, reader, writer, GET))[0] == 200
        kernel.speaks()
        status, body = await world.exchange(number, reader, writer, GET)
        assert status == 403 and refusal(body)["reason"] == "socket_tainted", body
        writer.close()
        first, second = world.spine.of(Action.HTTP)
        assert first.outcome is Outcome.ALLOW and first.binary is not None and first.binary.identity == "strong"
        assert second.outcome is Outcome.DENY and second.reason is Reason.SOCKET_TAINTED
        assert second.binary is not None and second.binary.identity == "tainted" and second.detail["speaker"] == "?"
        assert len(seen.heads) == 1

    spoken_over(pki, scenario)


def test_a_kernel_that_tells_too_late_for_the_first_look_is_asked_again_before_anything_goes_out(pki: Pki) -> None:
    async def scenario(world: World, kernel: Kernel) -> None:
        number, seen = await world.plain("a.example")

        async def written_down() -> bool:
            kernel.speaks()
            return True

        world.spine.before_begin = written_down
        status, body = await world.ask(number, GET, tls=False)
        assert status == 403 and refusal(body)["reason"] == "socket_tainted", body
        await world.spine.settled()
        begun, refused = world.spine.of(Action.HTTP)
        assert (begun.effect, begun.reason) == (Effect.REFUSE, Reason.SOCKET_TAINTED), "what was written ahead says that it did not go out"
        assert refused.outcome is Outcome.DENY and seen.heads == []

    spoken_over(pki, scenario)


def test_what_can_no_longer_be_told_does_not_go_out(pki: Pki) -> None:
    async def scenario(world: World, kernel: Kernel) -> None:
        number, seen = await world.plain("a.example")
        kernel.forgets()
        assert (await world.ask(number, GET, tls=False))[0] == 403
        (record,) = world.spine.of(Action.HTTP)
        assert (record.outcome, record.effect, record.reason) == (Outcome.ALLOW, Effect.REFUSE, Reason.INTERRUPTED) and seen.heads == []

    spoken_over(pki, scenario)


def test_a_client_that_left_while_its_request_was_written_down_has_one_record(pki: Pki) -> None:
    async def scenario(world: World, kernel: Kernel) -> None:
        number, seen = await world.plain("a.example")

        async def written_down() -> bool:
            kernel.forgets()
            return True

        world.spine.before_begin = written_down
        assert (await world.ask(number, GET, tls=False))[0] == 403
        await world.spine.settled()
        (record,) = world.spine.of(Action.HTTP)
        assert (record.outcome, record.effect, record.reason) == (Outcome.ALLOW, Effect.REFUSE, Reason.INTERRUPTED) and seen.heads == []

    spoken_over(pki, scenario)


def test_a_websocket_is_cut_at_the_others_first_message(pki: Pki) -> None:
    async def scenario(world: World, kernel: Kernel) -> None:
        seen = Seen()
        port = await world.server(lambda r, w: websocket_echo(r, w, seen))
        number = world.name("ws.example", port)
        reader, writer = await world.dial(number, tls=False)
        writer.write(UPGRADE.replace("{host}", f"ws.example:{port}").encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        writer.write(masked(b"one"))
        assert await reader.readexactly(5) == b"\x81\x03one"
        kernel.speaks()
        writer.write(masked(b"two"))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await world.spine.settled()
        (record,) = world.spine.of(Action.WEBSOCKET)
        assert (record.effect, record.reason) == (Effect.CUT, Reason.SOCKET_TAINTED)
        cut = await world.spine.wait_for(Reason.SOCKET_TAINTED)
        assert cut and seen.heads == [b"one"]

    spoken_over(pki, scenario)


def test_a_relay_is_cut_at_the_others_first_piece(pki: Pki) -> None:
    async def scenario(world: World, kernel: Kernel) -> None:
        arrived: list[bytes] = []

        async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(100):
                    arrived.append(data)
                    writer.write(data)
            writer.close()

        number = world.name("r.example", await world.server(keep))
        reader, writer = await world.dial(number, tls=False, relay=True)
        writer.write(b"own")
        assert await reader.readexactly(3) == b"own"
        kernel.speaks()
        writer.write(b"foreign")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        record = await world.spine.wait_for(Reason.SOCKET_TAINTED)
        assert record.action is Action.CONNECT and record.effect is Effect.CUT and record.detail["speaker"] == "?"
        assert arrived == [b"own"]

    spoken_over(pki, scenario, FakePolicy(relay=frozenset({"r.example"}), tcp=True))
