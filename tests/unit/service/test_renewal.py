"""When a key is renewed, and that an attempt which fails is not the last: a real authority, and a worker that takes what it is given."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from framework.hsm import Organisation
from framework.policy import http, whole
from stockade.policy import Policy, load
from stockade.proxy import Signing
from stockade.service import renewal
from stockade.service.renewal import Renewal
from stockade.signing import own, sandbox
from stockade.signing.settings import Ca
from stockade.types import Outcome, Reason, Record, StockadeError


class World:
    """organisation: under its root, and for what a policy of these hosts names; else under one of its own."""

    def __init__(self, life: float, organisation: Organisation | None = None, *hosts: str) -> None:
        self.given: list[Signing] = []
        self.records: list[Record] = []
        self.kept = 0
        self.governed: Any = SimpleNamespace(number=7, policy=Policy("p"))
        ca, authority = Ca(life=life), None
        if organisation is not None:
            self.governed.policy = naming(organisation.chain.parent, *hosts)
            ca = Ca(life=life, certificate=organisation.chain, key=organisation.key)
            authority = sandbox.begin("box", ca, self.governed.policy)
        self.renewal = Renewal(
            self.governed, authority or own.create("box", life), ca, lambda: self, lambda _, record: self.records.append(record)
        )
        self.renewal.changed = self.keep

    def keep(self) -> None:
        self.kept += 1

    async def renew(self, sandbox: int, signing: Signing) -> None:
        assert sandbox == 7
        self.given.append(signing)

    @property
    def good_for(self) -> str:
        return str(self.renewal.described()["good_for"])

    async def looked(self, until: Callable[[], bool]) -> None:
        """Watched until that is so."""
        watching = asyncio.create_task(self.renewal.watch())
        async with asyncio.timeout(60):
            while not until():
                assert not watching.done()
                await asyncio.sleep(0.01)
        watching.cancel()


def naming(directory: Path, *hosts: str) -> Policy:
    (directory / "policy.yaml").write_text(whole(http("curl", *hosts), allow=["curl"]))
    return load([directory / "policy.yaml"])


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

    before = world.renewal.authority.signing
    asyncio.run(world.looked(lambda: bool(world.given)))
    reasons = [record.reason for record in world.records[:3]]
    assert reasons == [Reason.AUTHORITY_NOT_RENEWED, Reason.AUTHORITY_NOT_RENEWED, Reason.AUTHORITY_RENEWED]
    assert [record.detail["why"] for record in world.records[:2]] == ["ca: RuntimeError('a bug')", "away"]
    assert world.renewal.failed == 2 and world.renewal.why == "" and before.until <= time.time()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "FIT", 0.01)


@pytest.mark.usefixtures("soon")
def test_a_policy_that_names_less_gets_a_key_that_is_good_for_less(tmp_path: Path) -> None:
    """Not before it is in force: until then the one before needs all of it."""
    world = World(3600, Organisation.found(tmp_path / "ca"), "a.example", "b.example")
    less = naming(tmp_path, "a.example")
    asyncio.run(world.renewal.prepare(less, ()))
    assert world.good_for == "a.example b.example" and not world.records
    world.governed.policy = less
    asyncio.run(world.looked(lambda: bool(world.given)))
    assert world.good_for == "a.example" and world.renewal.authority.signing == world.given[-1]
    (record,) = world.records
    assert (record.outcome, record.reason, record.detail["cause"]) == (Outcome.ALLOW, Reason.AUTHORITY_RENEWED, "policy")


@pytest.mark.usefixtures("soon")
def test_what_is_taken_away_is_taken_away_without_a_key(tmp_path: Path) -> None:
    organisation = Organisation.found(tmp_path / "ca")
    world = World(30, organisation, "a.example", "b.example")
    organisation.key.rename(tmp_path / "away")
    less = naming(tmp_path, "a.example")
    asyncio.run(world.renewal.prepare(less, ()))
    world.governed.policy = less
    asyncio.run(world.looked(lambda: bool(world.records)))
    assert (world.records[0].reason, world.records[0].detail["cause"]) == (Reason.AUTHORITY_NOT_RENEWED, "policy")
    assert world.good_for == "a.example b.example" and world.renewal.why
    (tmp_path / "away").rename(organisation.key)
    asyncio.run(world.looked(lambda: bool(world.given)))
    assert world.good_for == "a.example" and not world.renewal.why


@pytest.mark.usefixtures("soon")
def test_a_policy_that_came_while_nobody_was_there_gets_its_key(tmp_path: Path) -> None:
    """An agent that adopts puts what it finds on disk in force, and has nothing signed before."""
    world = World(3600, Organisation.found(tmp_path / "ca"), "a.example")
    world.governed.policy = naming(tmp_path, "b.example")
    asyncio.run(world.looked(lambda: bool(world.given)))
    assert world.good_for == "b.example"


def test_names_that_nobody_can_list_are_an_attempt_that_failed(tmp_path: Path) -> None:
    world = World(3600, Organisation.found(tmp_path / "ca"), "a.example")
    world.governed.policy = dataclasses.replace(world.governed.policy, mode="observe")
    with pytest.raises(StockadeError, match="nobody knows which names"):
        asyncio.run(world.renewal.rotate("test"))
    (record,) = world.records
    assert record.reason == Reason.AUTHORITY_NOT_RENEWED and world.renewal.failed == 1
