"""One worker for sandboxes of several agents: each question is answered by the sandbox's own."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from stockade.proxy import Begun
from stockade.proxy.spine import Recorded
from stockade.service.spines import Spines
from stockade.types import Effect, Reason


class Answering:
    """An agent, as far as a worker asks it here."""

    def __init__(self, first: int) -> None:
        self._next = first
        self.finished: list[int] = []

    async def record(self, sandbox: int, _record: Any) -> Recorded:
        return Recorded(f"{self._next} of {sandbox}")

    async def begin(self, _sandbox: int, _record: Any) -> Begun:
        self._next += 1
        return Begun(self._next)

    async def finish(self, token: int, *_: Any) -> str:
        self.finished.append(token)
        return str(token)


def test_each_sandbox_has_its_own_agent() -> None:
    async def main() -> None:
        spines, one, other = Spines(), Answering(100), Answering(200)
        spines.agents |= cast("dict[int, Any]", {1: one, 2: other})
        record: Any = None
        assert (await spines.record(1, record)).id == "100 of 1"
        assert (await spines.record(2, record)).id == "200 of 2"
        begun = [await spines.begin(number, record) for number in (1, 2, 2)]
        assert [each.token for each in begun if each is not None] == [101, 201, 202]
        assert await spines.finish(201, None, Effect.PASS, Reason.INTERRUPTED) == "201"
        assert (one.finished, other.finished) == ([], [201])
        with pytest.raises(KeyError):  # once
            await spines.finish(201, None, Effect.PASS, Reason.INTERRUPTED)
        spines.forget(2)
        with pytest.raises(KeyError):
            await spines.record(2, record)
        await spines.finish(202, None, Effect.PASS, Reason.INTERRUPTED)  # the worker says it after it has let go of the sandbox
        assert other.finished == [201, 202]
        spines.lost()
        with pytest.raises(KeyError):
            await spines.finish(101, None, Effect.PASS, Reason.INTERRUPTED)
        assert one.finished == []

    asyncio.run(main())
