"""What the agent makes of any event of the kernel's: one record, whatever its fields say, and one on what was lost where it cannot."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fuzz.campaign import mutate
from fuzz.corpus import seeds, spoilt
from stockade.audit import Trail
from stockade.kernel import syscall
from stockade.kernel.abi import Event, EventType, Verdict, Why
from stockade.kernel.load import Kernel
from stockade.service.agent import Agent
from stockade.types import Reason
from unit.service.samples import NUMBER, governed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a ring buffer map is root's to make")
_SANDBOX = 8  # offset in struct event
EVERY = list(itertools.product(EventType, Verdict, Why))


def addressed(data: bytes) -> bytes:
    """The same event, of the sandbox that is governed here."""
    return data[:_SANDBOX] + NUMBER.to_bytes(4, "little") + data[_SANDBOX + 4 :]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent with a real ring and a real trail, and counters of a kernel that never fails."""
    descriptor = syscall.map_create(syscall.MapShape("fuzz", syscall.MAP_TYPE_RINGBUF, 0, 0, 4096, 0))
    trail = Trail.open(tmp_path / "audit.jsonl")
    kernel = SimpleNamespace(maps=SimpleNamespace(events=descriptor, failures=dict))
    made = Agent(cast(Kernel, kernel), trail, failures_every=60)
    made.govern(governed(tmp_path)[0])
    yield made
    made._ring.close()
    trail.close()
    os.close(descriptor)


def hand(agent: Agent, data: bytes) -> None:
    """As libbpf hands an event over."""
    buffer = ctypes.create_string_buffer(data, len(data))
    agent._ring._received(None, ctypes.addressof(buffer), len(data))


def records(directory: Path) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, (directory / "audit.jsonl").read_bytes().splitlines()) if "checkpoint" not in line]


def test_any_event_is_one_record(agent: Agent, tmp_path: Path) -> None:
    written = 0

    async def check(data: bytes) -> None:
        nonlocal written
        before = dict(agent._ring.lost)
        hand(agent, data)
        await asyncio.gather(*agent._tasks)  # a packet is explained before its record
        assert agent._ring.lost["undelivered"] == before["undelivered"]
        if agent._ring.lost == before and Event.decode(data).sandbox == NUMBER:
            written += 1

    kinds = [bytes([kind]) + seed[1:] for seed in seeds("event") for kind in EventType]
    mutate(spoilt(kinds).map(addressed), lambda data: asyncio.run(check(data)))
    found = records(tmp_path)
    assert len(found) == written > 100
    assert all(record["sandbox"]["name"] == "box" and record["action"] and record["reason"] for record in found)


def test_an_event_of_each_kind_verdict_and_reason_is_one_record(agent: Agent, tmp_path: Path) -> None:
    async def main() -> None:
        for kind, verdict, why in EVERY:
            hand(agent, bytes([kind, verdict, why]) + addressed(seeds("event")[0])[3:])
        await asyncio.gather(*agent._tasks)

    asyncio.run(main())
    assert agent._ring.lost == {"malformed": 0, "undelivered": 0}
    assert len(records(tmp_path)) == len(EVERY)


def test_what_the_ring_lost_is_on_record(agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bytes are known that make the agent fail; so it is made to, once."""
    hand(agent, b"\xff" * Event.LAYOUT.size)
    with monkeypatch.context() as fault:
        fault.setattr(agent, "governed", None)
        hand(agent, addressed(seeds("event")[0]))
    agent._count_failures()
    (record,) = records(tmp_path)
    assert (record["action"], record["decision"], record["reason"]) == ("lifecycle", "deny", Reason.EVENTS_LOST)
    assert record["detail"] == {"malformed": 1, "undelivered": 1}
    agent._count_failures()
    assert len(records(tmp_path)) == 1
