"""Doors, with real sockets: this machine's loopback as the outside, another namespace's as the inside."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from framework import probes
from framework.netns import Namespace
from stockade.audit import AuditError
from stockade.policy import Policy
from stockade.policy.neighbour import Neighbour
from stockade.proxy import Begun
from stockade.proxy.spine import Passed
from stockade.sandbox.inside import Inside
from stockade.service import inbound
from stockade.service.agent import Agent
from stockade.service.governed import Governed
from stockade.service.inbound import Door, Doors, doors_of
from stockade.service.neighbours import Caller
from stockade.types import Effect, Outcome, Reason, Record, StockadeError
from unit.service.samples import governed, policy


def stating(directory: Path, *ports: tuple[int, list[str]], generation: int = 1) -> Policy:
    lines = "".join(f"  - {{port: {port}, from: {sources}}}\n" for port, sources in ports)
    return policy(directory, "version: 1\n" + (f"inbound:\n{lines}" if ports else ""), generation)


ANY4, ANY6, LO4, LO6 = (Door(address, 8080) for address in ("0.0.0.0", "::", "127.0.0.1", "::1"))


@pytest.mark.parametrize(
    ("sources", "doors"),
    [
        (["127.0.0.1"], {LO4}),
        (["127.0.0.0/8"], {LO4}),
        (["127.0.0.0/7"], None),
        (["126.0.0.0/7"], {ANY4}),
        (["::1"], {LO6}),
        (["::/127"], {ANY6}),
        (["127.0.0.1", "::1"], {LO4, LO6}),
        (["127.0.0.1", "10.0.0.0/8"], {ANY4}),
        (["10.0.0.0/8", "::1"], {ANY4, LO6}),
        (["0.0.0.0/0", "::/0"], {ANY4, ANY6}),
        (["sandbox:other"], set()),
        (["sandbox:other", "127.0.0.1"], {LO4}),
    ],
)
def test_where_it_is_listened(tmp_path: Path, sources: list[str], doors: set[Door] | None) -> None:
    if doors is None:
        with pytest.raises(StockadeError, match="host bits"):
            stating(tmp_path, (8080, sources))
    else:
        assert doors_of(stating(tmp_path, (8080, sources))) == doors


@dataclass
class House:
    """The agent, as far as a door knows it, and a worker that holds what it is given until `release`."""

    box: Governed
    listener: socket.socket  # in a namespace of its own
    records: list[Record] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    finished: list[tuple[int, Reason, Effect, Outcome | None]] = field(default_factory=list)
    broken: bool = False
    release: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, _governed: Governed, record: Record) -> None:
        self.records.append(record)

    async def begin(self, _number: int, record: Record) -> Begun:
        if self.broken:
            raise AuditError("disk full")
        self.records.append(record)
        return Begun(len(self.records) - 1)

    def finish(self, token: int, *, outcome: Outcome | None, effect: Effect, reason: Reason, detail: Any, required: bool) -> None:
        assert required, "on_audit_failure: deny"
        self.finished.append((token, reason, effect, outcome))

    async def carry(self, _number: int, _port: int, source: str, outer: socket.socket, inner: socket.socket) -> Passed:
        self.carried.append(source)
        with outer, inner:
            await self.release.wait()
        return Passed(0, 0, Reason.RULE_ALLOW)

    @asynccontextmanager
    async def doors(self) -> AsyncIterator[Doors]:
        kernel = SimpleNamespace(maps=SimpleNamespace(task=lambda _pid: None))
        agent = SimpleNamespace(write=self.write, begin=self.begin, trail=SimpleNamespace(finish=self.finish), kernel=kernel)
        made = Doors(self.box, cast(Agent, agent), Inside(self.listener), lambda: self)
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    if missing := probes.governing():
        pytest.skip(missing)
    with Namespace() as made:
        yield made


Scene = Callable[[House, Doors, int], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, namespace: Namespace) -> Callable[..., None]:
    """play(scene, **state): in a house whose policy lets 127.0.0.1 in, on a port on which somebody listens inside."""

    def run(scene: Scene, **state: Any) -> None:
        with namespace.listen("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            box, _ = governed(tmp_path)
            box.policy = stating(tmp_path, (port, ["127.0.0.1/32"]))

            async def main() -> None:
                house = House(box, listener, **state)
                async with house.doors() as doors, asyncio.timeout(20):
                    await scene(house, doors, port)

            asyncio.run(main())

    return run


async def ask(port: int, source: str = "127.0.0.1") -> bytes:
    """What a caller hears: b"" from a door that is shut in his face."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        with contextlib.closing(writer):
            return await reader.read()
    except ConnectionResetError:
        return b"reset"


async def until(probe: Callable[[], bool]) -> None:
    while not probe():
        await asyncio.sleep(0.01)


def test_a_record_that_cannot_be_written_lets_nobody_in(play: Callable[..., None]) -> None:
    async def scene(house: House, doors: Doors, port: int) -> None:
        doors.open(house.box.policy)
        assert await ask(port) == b"reset"
        assert house.carried == house.records == []
        house.broken = False
        house.release.set()
        assert await ask(port) == b""
        assert [record.outcome for record in house.records] == [Outcome.ALLOW]

    play(scene, broken=True)


def test_at_the_limit_who_comes_waits(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "PASSAGES", 2)

    async def scene(house: House, doors: Doors, port: int) -> None:
        doors.open(house.box.policy)
        callers = [asyncio.create_task(ask(port)) for _ in range(5)]
        await until(lambda: len(house.carried) == 2)
        await asyncio.sleep(0.1)
        assert len(house.records) == 2, "the others are in the kernel's backlog"
        house.release.set()
        await asyncio.gather(*callers)
        await until(lambda: len(house.finished) == 5)
        assert {(reason, effect) for _, reason, effect, _ in house.finished} == {(Reason.RULE_ALLOW, Effect.RELAY)}

    play(scene)


def test_what_is_under_way_at_the_end_is_interrupted(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "LAST_WORDS", 0.01)

    async def scene(house: House, doors: Doors, port: int) -> None:
        doors.open(house.box.policy)
        caller = asyncio.create_task(ask(port))
        await until(lambda: len(house.carried) == 1)
        await doors.close()
        await caller
        assert house.finished == [(0, Reason.INTERRUPTED, Effect.CUT, None)]
        with pytest.raises(ConnectionRefusedError):
            await ask(port)

    play(scene)


def test_a_policy_that_is_not_in_force_yet_admits_nobody(tmp_path: Path, play: Callable[..., None]) -> None:
    """Its doors are open before the switch, so that a port that cannot be had refuses it; who may come in is the old one's to say."""

    async def scene(house: House, doors: Doors, port: int) -> None:
        following = house.box.policy
        house.box.policy = stating(tmp_path)
        doors.open(following)
        assert await ask(port) == b"reset"
        assert [record.reason for record in house.records] == [Reason.SOURCE_REFUSED]
        doors.settle()  # as after a switch that failed
        with pytest.raises(ConnectionRefusedError):
            await ask(port)
        doors.open(following)
        house.box.policy = following
        doors.settle()
        house.release.set()
        assert await ask(port) == b"" and house.carried == ["127.0.0.1"]

    play(scene)


def test_a_port_that_cannot_be_had_leaves_everything_as_it_was(tmp_path: Path, play: Callable[..., None]) -> None:
    async def scene(house: House, doors: Doors, port: int) -> None:
        house.release.set()
        doors.open(house.box.policy)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            both = stating(tmp_path, (port, ["0.0.0.0/0"]), (taken.getsockname()[1], ["127.0.0.1"]))
            with pytest.raises(StockadeError, match=r"port \d+ of 127\.0\.0\.1 is taken"):
                doors.open(both)
        assert await ask(port) == b"", "the door on loopback, which had made way for the one on every address"
        doors.open(both)
        house.box.policy = both
        doors.settle()
        assert await ask(port, "127.9.9.9") == b"", "now anybody"
        assert house.carried == ["127.0.0.1", "127.9.9.9"]

    play(scene)


# other sandboxes


OTHER = Caller(Neighbour("other"), "0d1f", ("team=red",), "/usr/bin/curl", 77)


def visited(tmp_path: Path, house: House, port: int) -> None:
    house.box.policy = stating(tmp_path, (port, ["sandbox:other"]))


def test_a_visitor_is_let_in_and_its_end_is_cut_with_the_passage(tmp_path: Path, play: Callable[..., None]) -> None:
    async def scene(house: House, doors: Doors, port: int) -> None:
        visited(tmp_path, house, port)
        theirs = await doors.visit(port, OTHER)
        with theirs:
            await until(lambda: house.carried == ["sandbox:other"])
            (record,) = house.records
            assert (record.outcome, record.effect, record.reason) == (Outcome.ALLOW, Effect.RELAY, Reason.RULE_ALLOW)
            assert record.detail == OTHER.detail() and record.detail["source_id"] == "0d1f"
            house.release.set()
            assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
        await until(lambda: house.finished == [(0, Reason.RULE_ALLOW, Effect.RELAY, None)])

    play(scene)


def test_a_visitor_whom_the_policy_does_not_name_stays_out(tmp_path: Path, play: Callable[..., None]) -> None:
    async def scene(house: House, doors: Doors, port: int) -> None:
        visited(tmp_path, house, port)
        for at, who in ((port, Caller(Neighbour("third"), "1")), (port ^ 1, OTHER), (port, Caller(Neighbour("Other"), "2"))):
            with pytest.raises(StockadeError) as refused:
                await doors.visit(at, who)
            assert refused.value.code == "source_refused"
        assert [(record.outcome, record.reason) for record in house.records] == [(Outcome.DENY, Reason.SOURCE_REFUSED)] * 3
        assert house.carried == []

    play(scene)


def test_where_nobody_listens_a_visitor_hears_so(tmp_path: Path, play: Callable[..., None]) -> None:
    async def scene(house: House, doors: Doors, port: int) -> None:
        with pytest.raises(StockadeError, match="nobody listens on port 1 of") as refused:
            visited(tmp_path, house, 1)
            await doors.visit(1, OTHER)
        assert refused.value.code == "unreachable"
        assert house.finished == [(0, Reason.UPSTREAM_UNREACHABLE, Effect.REFUSE, Outcome.DENY)]

    play(scene)


def test_without_a_record_without_room_and_at_the_end_no_visitor_comes_in(
    tmp_path: Path, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(house: House, doors: Doors, port: int) -> None:
        visited(tmp_path, house, port)
        with pytest.raises(StockadeError, match="audit trail"):
            await doors.visit(port, OTHER)
        assert house.records == []
        house.broken = False
        monkeypatch.setattr(inbound, "PASSAGES", 0)
        with pytest.raises(StockadeError, match="has 0 connections"):
            await doors.visit(port, OTHER)
        monkeypatch.undo()
        await doors.close()
        with pytest.raises(StockadeError, match="is ending"):
            await doors.visit(port, OTHER)
        assert [record.reason for record in house.records] == [Reason.LIMIT_REACHED] * 2 and house.carried == []

    play(scene, broken=True)
