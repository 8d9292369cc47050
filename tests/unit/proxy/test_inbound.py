"""What comes in, as the worker carries it: every byte as it is, no longer than the newest policy admits it, and counted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from dataclasses import dataclass

import pytest

from stockade.policy.hosts import Address
from stockade.proxy.spine import Passed
from stockade.types import Reason

from .conftest import SANDBOX, FakePolicy, World

PORT, SOURCE = 8080, "192.0.2.7"


@dataclass(frozen=True)
class Open(FakePolicy):
    """Admits SOURCE to PORT."""

    open: bool = True

    def admits(self, port: int, source: Address) -> bool:
        return self.open and (port, str(source)) == (PORT, SOURCE)


class Ends:
    """The peer outside and the listener inside, and the two sockets that lie between."""

    def __init__(self) -> None:
        self.peer, self.outer = _pair()
        self.listener, self.inner = _pair()

    def carry(self, world: World, port: int = PORT) -> asyncio.Task[Passed]:
        return asyncio.create_task(world.worker.carry(SANDBOX, port, SOURCE, self.outer, self.inner))


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


async def said(sock: socket.socket, size: int) -> bytes:
    loop, heard = asyncio.get_running_loop(), b""
    while len(heard) < size and (data := await loop.sock_recv(sock, 65536)):
        heard += data
    return heard


async def is_cut(sock: socket.socket) -> bool:
    try:
        return await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    except ConnectionResetError:
        return True


def test_bytes_pass_until_both_sides_are_done(proxied):
    async def scenario(world: World) -> None:
        ends, loop = Ends(), asyncio.get_running_loop()
        carried = ends.carry(world)
        hello = b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00" + b"x" * 2_000_000  # a TLS record that no relay of ours would pass on
        sending = asyncio.create_task(loop.sock_sendall(ends.peer, hello))
        assert await said(ends.listener, len(hello)) == hello
        await sending
        ends.peer.shutdown(socket.SHUT_WR)
        assert await said(ends.listener, 1) == b""
        await loop.sock_sendall(ends.listener, b"late answer")
        ends.listener.close()
        assert await said(ends.peer, 100) == b"late answer"
        assert await carried == Passed(len(hello), 11, Reason.RULE_ALLOW)
        assert world.spine.records == [], "who let it in records it"

    proxied(scenario, policy=Open())


def test_a_reload_cuts_what_it_no_longer_admits(proxied):
    async def scenario(world: World) -> None:
        ends, loop = Ends(), asyncio.get_running_loop()
        carried = ends.carry(world)
        await loop.sock_sendall(ends.peer, b"one")
        assert await said(ends.listener, 3) == b"one"
        await world.reload(Open(generation=2))
        await loop.sock_sendall(ends.peer, b"two")
        assert await said(ends.listener, 3) == b"two"
        await world.reload(Open(generation=3, open=False))
        assert await is_cut(ends.peer) and await is_cut(ends.listener)
        assert await carried == Passed(6, 0, Reason.POLICY_CHANGED)

    proxied(scenario, policy=Open())


def test_what_a_newer_policy_does_not_admit_passes_nothing(proxied):
    """The agent let it in under the policy before: the worker has the next one already."""

    async def scenario(world: World) -> None:
        ends, loop = Ends(), asyncio.get_running_loop()
        await loop.sock_sendall(ends.peer, b"early")
        carried = ends.carry(world, port=81)
        assert await said(ends.listener, 1) == b"" and await is_cut(ends.peer)
        assert await carried == Passed(0, 0, Reason.POLICY_CHANGED)

    proxied(scenario, policy=Open())


@pytest.mark.parametrize("how", ["killed", "lost"])
def test_with_the_worker_gone_both_sides_are(proxied, how):
    async def scenario(world: World) -> None:
        ends, loop = Ends(), asyncio.get_running_loop()
        carried = ends.carry(world)
        await loop.sock_sendall(ends.peer, b"one")
        assert await said(ends.listener, 3) == b"one"
        if how == "killed":
            os.kill(world.worker.pid, signal.SIGKILL)
        else:
            world.worker._sock.shutdown(socket.SHUT_RDWR)  # as the end of the agent looks to it
        assert await is_cut(ends.peer) and await is_cut(ends.listener)
        with pytest.raises(ConnectionError):
            await carried
        with pytest.raises(ConnectionError):
            await Ends().carry(world)

    proxied(scenario, policy=Open())
