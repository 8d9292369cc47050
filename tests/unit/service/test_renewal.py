"""When a key is renewed, and that an attempt which fails is not the last: a real authority, and a worker that takes what it is given."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from stockade.policy import Policy
from stockade.proxy import Signing
from stockade.service.renewal import Renewal
from stockade.signing import own, sandbox
from stockade.signing.settings import Ca
from stockade.types import Outcome, Reason, Record, StockadeError


class World:
    def __init__(self, life: float) -> None:
        self.given: list[Signing] = []
        self.records: list[Record] = []
        self.kept = 0
        governed: Any = SimpleNamespace(number=7, policy=Policy("p"))
        self.renewal = Renewal(
            governed, own.create("box", life), Ca(life=life), lambda: self, lambda _, record: self.records.append(record)
        )
        self.renewal.changed = self.keep

    def keep(self) -> None:
        self.kept += 1

    async def renew(self, sandbox: int, signing: Signing) -> None:
        assert sandbox == 7
        self.given.append(signing)


def test_the_worker_and_the_next_agent_get_the_same_key() -> None:
    world = World(3600)
    first = world.renewal.authority
    asyncio.run(world.renewal.rotate("test"))
    now = world.renewal.authority
    assert world.given == [now.signing] and now.signing != first.signing and world.kept == 1
    assert (now.certificate_pem, now.root_key) == (first.certificate_pem, first.root_key)
    (record,) = world.records
    assert (record.outcome, record.reason) == (Outcome.ALLOW, Reason.AUTHORITY_RENEWED)


def test_a_worker_that_is_gone_does_not_keep_the_next_one_from_the_newest() -> None:
    world = World(3600)

    async def gone(_sandbox: int, _signing: Signing) -> None:
        raise ConnectionError

    world.renew = gone  # type: ignore[method-assign]
    first = world.renewal.authority.signing
    asyncio.run(world.renewal.rotate("test"))
    assert world.renewal.authority.signing != first and world.kept == 1


def test_whatever_fails_is_recorded_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0.03)  # due at once, and a second between attempts
    real, failures = sandbox.again, iter([RuntimeError("a bug"), StockadeError("away", code="ca_unavailable")])

    def again(*arguments: Any) -> Signing:
        for failure in failures:
            raise failure
        return real(*arguments)

    monkeypatch.setattr(sandbox, "again", again)

    async def watched() -> None:
        watching = asyncio.create_task(world.renewal.watch())
        while not world.given:
            assert not watching.done()
            await asyncio.sleep(0.01)
        watching.cancel()

    before = world.renewal.authority.signing
    asyncio.run(watched())
    reasons = [record.reason for record in world.records[:3]]
    assert reasons == [Reason.AUTHORITY_NOT_RENEWED, Reason.AUTHORITY_NOT_RENEWED, Reason.AUTHORITY_RENEWED]
    assert [record.detail["why"] for record in world.records[:2]] == ["ca: RuntimeError('a bug')", "away"]
    assert world.renewal.failed == 2 and world.renewal.why == "" and before.until <= time.time()
