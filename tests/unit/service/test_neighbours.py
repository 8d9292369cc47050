"""Who asks to come in, as one agent tells another; and the connection between the two."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stockade.kernel.abi import Origin, Verdict
from stockade.policy.neighbour import Neighbour
from stockade.proxy.spine import Unreached
from stockade.service import neighbours
from stockade.service.agent import Agent
from stockade.service.control import Control, Handed, Json, Peer
from stockade.service.governed import Governed
from stockade.service.neighbours import TEXT, Caller, caller, pair, reach
from stockade.types import Binary, Reason, Sandbox, StockadeError
from unit.service.samples import CURL, GIT, NUMBER, NUMBERS, POLICY, governed, policy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the control socket is root's")

WHO = Caller(Neighbour("a"), "0d1f", ("team=red",), "/usr/bin/curl", 77)


def test_who_asks_is_told_as_the_agent_knows_it() -> None:
    sandbox = Sandbox("0d1f", "a", "p", 3, {"team": "red"})
    assert caller(sandbox, Binary.named("curl", "/usr/bin/curl"), 77) == WHO == Caller.of(WHO.said())
    assert caller(sandbox, Binary("pip", frozenset({"pip"}), "/usr/bin/python3", "/usr/bin/pip"), 7).program == "/usr/bin/pip"


@pytest.mark.parametrize(
    "changed",
    [
        {"sandbox": "a"},
        {"sandbox": None},
        {"sandbox": "sandbox:a/b"},
        {"sandbox": "10.0.0.1"},
        {"id": 5},
        {"id": "x" * (TEXT + 1)},
        {"labels": "team"},
        {"labels": [5]},
        {"labels": ["x"] * 65},
        {"pid": -1},
        {"pid": True},
        {"program": None},
    ],
)
def test_nonsense_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(StockadeError) as refused:
        Caller.of(WHO.said() | changed)
    assert refused.value.code == "bad_argument"


def test_what_stands_in_the_way_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SECONDS", 0.2)
    asked: list[Json] = []

    async def dial(arguments: Json, _peer: Peer) -> Handed:
        asked.append(arguments)
        if arguments["port"] == 1:
            raise StockadeError("not you", code="source_refused")
        if arguments["port"] == 2:
            raise StockadeError("nobody", code="unreachable")
        ours, theirs = socket.socketpair()
        ours.close()
        return Handed({}, theirs)

    async def main() -> None:
        assert await reach(tmp_path, "b", 5, WHO) == Unreached(Reason.UPSTREAM_UNREACHABLE, "no sandbox called b is running")
        control = Control.take(tmp_path, "b")
        assert await reach(tmp_path, "b", 5, WHO) == Unreached(Reason.UPSTREAM_UNREACHABLE, "the agent of b does not answer")
        control.serve({"dial": dial})
        assert await reach(tmp_path, "b", 1, WHO) == Unreached(Reason.SOURCE_REFUSED, "not you")
        assert await reach(tmp_path, "b", 2, WHO) == Unreached(Reason.UPSTREAM_UNREACHABLE, "nobody")
        found = await reach(tmp_path, "b", 5, WHO)
        assert isinstance(found, socket.socket)
        found.close()
        control.close()
        assert asked[-1] == {"port": 5, "from": WHO.said()}

    asyncio.run(main())


def test_the_two_ends_are_one_connection_and_a_reset_is_told() -> None:
    async def main() -> None:
        near, far = await pair(5)
        loop = asyncio.get_running_loop()
        with near:
            await loop.sock_sendall(far, b"x")
            assert await loop.sock_recv(near, 10) == b"x" and near.getsockname() == far.getpeername()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(near, 1)

    asyncio.run(main())


def test_somebody_who_comes_first_to_the_connection_between_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port is any local program's to dial, for the moment that it is open."""
    strangers: list[socket.socket] = []
    create = socket.create_server

    def crowded(*arguments: Any, **more: Any) -> socket.socket:
        listener = create(*arguments, **more)
        strangers.append(socket.create_connection(listener.getsockname()))
        return listener

    monkeypatch.setattr(socket, "create_server", crowded)

    async def main() -> None:
        near, far = await pair(5)
        with near, far:
            assert near.getsockname() == far.getpeername() != strangers[0].getsockname()
        strangers[0].settimeout(5)
        assert strangers[0].recv(1) == b""
        strangers[0].close()

    asyncio.run(main())


def test_no_loopback_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> socket.socket:
        raise OSError(errno.EADDRNOTAVAIL, "no loopback")

    monkeypatch.setattr(socket, "create_server", refused)
    with pytest.raises(OSError, match="no loopback"):
        asyncio.run(pair(5))


# a worker is not believed


def origin(box: Governed, identity: int, host: str, port: int) -> Origin:
    name = box.table.allocate(host)
    return Origin(NUMBER, identity, 12, 77, name, 1, port, Verdict.INSPECT, ipaddress.ip_address("198.18.1.0"), 99)


def test_what_the_policy_does_not_allow_is_asked_of_nobody(tmp_path: Path) -> None:
    """A worker that was taken over may ask for anything; it gets what the policy of its sandbox says, and no other host."""
    box, _ = governed(tmp_path)
    rule = """
  - name: other
    binary: {allow: [curl]}
    destination: {allow: ["sandbox:b"]}
    port: [5432]
    protocol: tcp
"""
    box.policy = policy(tmp_path, POLICY + rule)
    asked: list[Json] = []

    async def dial(arguments: Json, _peer: Peer) -> Handed:
        asked.append(arguments)
        return Handed({}, socket.socketpair()[0])

    async def main() -> None:
        controls = [Control.take(tmp_path / "control", name) for name in ("b", "c")]
        for control in controls:
            control.serve({"dial": dial})
        desk = SimpleNamespace(policy_for=lambda _host, _port, _generation: box.policy)
        agent = cast(Agent, SimpleNamespace(governed={NUMBER: box}, desks={NUMBER: desk}, _control=tmp_path / "control"))
        b, c = (f"{name}.sandbox.stockade.internal" for name in ("b", "c"))
        for identity, host, port, reason in (
            (NUMBERS[CURL], c, 5432, Reason.NO_RULE),
            (NUMBERS[CURL], b, 5433, Reason.NO_RULE),
            (NUMBERS[GIT], b, 5432, Reason.NO_RULE),
            (0, b, 5432, Reason.NO_RULE),
            (NUMBERS[CURL], "api.example.com", 443, Reason.RESOLVE_FAILED),
            (NUMBERS[CURL], "b.stockade.internal", 5432, Reason.RESOLVE_FAILED),
        ):
            found = await Agent.reach(agent, origin(box, identity, host, port), 1)
            assert isinstance(found, Unreached) and found.reason is reason, host
        assert asked == []
        found = await Agent.reach(agent, origin(box, NUMBERS[CURL], b, 5432), 1)
        assert isinstance(found, socket.socket)
        found.close()
        assert [(each["port"], each["from"]["program"]) for each in asked] == [(5432, CURL.path)]
        for control in controls:
            control.close()

    asyncio.run(main())
