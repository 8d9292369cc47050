"""The desk: an answer is a generation before anybody is told, one request is one request, and what is over is over."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stockade.kernel.abi import Verdict
from stockade.policy import Policy
from stockade.service.approvals import Approvals, State, Term
from stockade.service.approved import Approved
from stockade.service.desk import Desk, Terms
from stockade.service.generations import Generations
from stockade.service.governed import Governed
from stockade.service.watch import Watch
from stockade.types import UNKNOWN_BINARY, Action, Destination, Effect, Http, Level, Outcome, Reason, Record, StockadeError
from unit.service.samples import CURL, GIT, FakeMaps, governed, policy

EXEC = 4  # of curl's process
HOUR = Terms(Term.FOR, 3600)


@dataclass
class Room:
    """A sandbox with its desk; what the worker and the trail are told is kept."""

    directory: Path
    box: Governed
    maps: FakeMaps
    file: Approved | None = None
    told: list[Policy] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    now: float = 1000.0

    async def reload(self, _sandbox: int, loaded: Policy) -> None:
        await asyncio.sleep(0)
        self.told.append(loaded)

    def load(self, generation: int, named: list[Path]) -> Policy:
        loaded = policy(self.directory, (self.directory / "policy.yaml").read_text(), generation)
        return self.file.beside(loaded, named) if self.file else loaded

    def run[T](self, work: Callable[[Desk], Awaitable[T]]) -> T:
        def write(_governed: Governed, record: Record) -> None:
            self.records.append(record)

        async def main() -> T:
            table = Approvals()
            generations = Generations(self.box, Watch(), self.load, lambda: self, write, table.rules)
            return await work(Desk(self.box, table, generations, self.file, write, lambda: self.now))

        return asyncio.run(main())

    def reasons(self) -> list[Reason]:
        return [record.reason for record in self.records]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    box, maps = governed(tmp_path)
    box.executed(EXEC, CURL, 0)
    return Room(tmp_path, box, maps)


def refused(method: str = "POST", path: str = "/v1", host: str = "api.example.com") -> Record:
    return Record(
        Action.HTTP, Outcome.DENY, Effect.REFUSE, Level.METHOD, Reason.NO_RULE,
        binary=CURL, exec_id=EXEC, destination=Destination(host, 443), http=Http(method, path, 403),
    )  # fmt: skip


def passing(generation: int, rule: str, method: str = "POST", path: str = "/v1") -> Record:
    """What a worker wants to begin."""
    return Record(
        Action.HTTP, Outcome.ALLOW, Effect.PASS, Level.PATH, Reason.RULE_ALLOW, rule=rule, generation=generation,
        binary=CURL, exec_id=EXEC, destination=Destination("api.example.com", 443), http=Http(method, path),
    )  # fmt: skip


def noted(desk: Desk, record: Record) -> str:
    identifier = desk.note(record)
    assert identifier is not None
    return identifier


def test_the_record_of_a_refusal_holds_its_id(room: Room) -> None:
    async def work(desk: Desk) -> None:
        record = refused()
        assert record.detail == {"approval": desk.note(record)}

    room.run(work)


@pytest.mark.parametrize("lie", [{"binary": GIT}, {"exec_id": 99}, {"exec_id": None}])
def test_who_asks_is_what_the_agent_knows(room: Room, lie: dict[str, object]) -> None:
    """A worker that says it is another binary asks for the one that it is, or for nothing."""

    async def work(desk: Desk) -> None:
        identifier = desk.note(dataclasses.replace(refused(), **lie))  # type: ignore[arg-type]
        if "binary" in lie:
            approval = desk.table.find(identifier or "")
            assert approval is not None and (approval.wanted.binary, approval.asker) == ("curl", CURL)
        else:
            assert identifier is None

    room.run(work)


def test_a_process_without_a_network_identity_asks_for_nothing(room: Room) -> None:
    async def work(desk: Desk) -> None:
        room.box.executed(EXEC, UNKNOWN_BINARY, 0)
        assert desk.note(refused()) is None

    room.run(work)


def test_nobody_is_told_before_it_is_in_force(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())

        async def reload(_sandbox: int, loaded: Policy) -> None:
            page = desk.page(identifier)
            assert page is not None and page["state"] == "pending", "the worker does not have it yet"
            assert "approved" not in [record.reason for record in room.records]
            room.told.append(loaded)

        monkeypatch.setattr(room, "reload", reload)
        await desk.approve(identifier, HOUR, "uid 0")
        page = desk.page(identifier)
        assert page is not None and page["state"] == "approved" and room.told

    room.run(work)
    assert room.reasons() == [Reason.APPROVED] and room.records[0].detail["by"] == "uid 0"


def test_a_name_that_was_refused_is_opened_in_the_kernel_too(room: Room) -> None:
    async def work(desk: Desk) -> None:
        record = refused(host="new.example.net")
        record = Record(Action.DNS, record.outcome, record.effect, record.level, record.reason, binary=CURL, exec_id=EXEC,
                        destination=Destination("new.example.net"))  # fmt: skip
        identifier = noted(desk, record)
        index = room.box.table.allocate("new.example.net")
        await desk.approve(identifier, Terms(Term.FOR, 60, methods=("GET",), paths=("/**",)), "uid 0")
        assert room.maps.named(2, 1, index, 443) is Verdict.INSPECT and room.maps.named(2, 1, index, 80) is Verdict.DENY
        await desk.deny(identifier, "uid 0")
        assert room.maps.named(3, 1, index, 443) is Verdict.DENY

    room.run(work)


def test_one_request_and_its_dial(room: Room) -> None:
    """The rule is gone with the first; where it led may still be dialled, for as long as that one is under way."""

    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())
        await desk.approve(identifier, Terms(), "uid 0")
        first, second = passing(2, f"approval-{identifier}"), passing(2, f"approval-{identifier}")
        rules = desk.take(first)
        assert rules is not None and [rule.name for rule in rules] == [f"approval-{identifier}"]
        assert desk.take(second) is None, "in the same turn of the loop"
        desk.began(7, first, rules)
        await desk.withdrawn()
        assert room.box.policy.generation == 3 and room.told[-1] is room.box.policy
        assert all(rule.name != f"approval-{identifier}" for rule in room.box.policy.rules)
        assert [rule.name for rule in desk.policy_for("api.example.com", 443, 3).rules][-1] == f"approval-{identifier}"
        assert desk.policy_for("api.example.com", 80, 3) is desk.policy_for("other.example.com", 443, 3) is room.box.policy
        desk.over(7)
        assert desk.policy_for("api.example.com", 443, 3) is room.box.policy
        assert desk.policy_for("api.example.com", 443, 2).generation == 2, "of a request that passed before the switch"

    room.run(work)
    assert room.reasons() == [Reason.APPROVED, Reason.APPROVAL_CONSUMED]


def test_what_rests_on_another_rule_uses_up_nothing(room: Room) -> None:
    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())
        assert desk.take(passing(1, "web", "GET")) == ()
        await desk.approve(identifier, Terms(), "uid 0")
        assert desk.take(passing(2, "web", "GET", "/v1")) == []
        approval = desk.table.find(identifier)
        assert approval is not None and approval.state is State.APPROVED

    room.run(work)


def test_a_worker_that_hides_the_rule_uses_it_up_all_the_same(room: Room) -> None:
    """Which rule lets a request pass is found out here, not taken from the record."""

    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())
        await desk.approve(identifier, Terms(), "uid 0")
        assert desk.take(passing(2, "web")) and desk.take(passing(2, "web")) is None

    room.run(work)


def test_two_who_approve_and_one_request_at_the_same_time(room: Room) -> None:
    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())
        answers = await asyncio.gather(*(desk.approve(identifier, Terms(), f"uid {n}") for n in range(3)), return_exceptions=True)
        assert [isinstance(answer, StockadeError) for answer in answers] == [False, True, True]
        assert len([rule for rule in room.box.policy.rules if rule.name.startswith("approval-")]) == 1

    room.run(work)


def test_what_expires_is_closed_and_recorded(room: Room) -> None:
    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())
        await desk.approve(identifier, HOUR, "uid 0")
        desk.look()
        await asyncio.sleep(0.05)
        assert room.box.policy.generation == 2
        room.now += 3600
        while Reason.APPROVAL_EXPIRED not in room.reasons():
            desk.look()
            await asyncio.sleep(0.01)
        assert room.box.policy.generation == 3 and desk.take(passing(2, f"approval-{identifier}")) is None

    room.run(work)


def test_what_cannot_be_closed_lets_no_request_through_and_is_tried_again(room: Room) -> None:
    """The kernel has no room for the generation without the rule: the worker's policy still has it."""

    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())
        await desk.approve(identifier, HOUR, "uid 0")
        room.maps._room = 3
        with pytest.raises(StockadeError, match="no new request gets through") as caught:
            await desk.deny(identifier, "uid 0")
        assert caught.value.code == "approval_failed"
        assert room.box.policy.generation == 2 and desk.take(passing(2, f"approval-{identifier}")) is None
        room.maps._room = 10_000
        while room.box.policy.generation == 2:
            desk.look()
            await asyncio.sleep(0.01)
        assert all(not rule.name.startswith("approval-") for rule in room.box.policy.rules)

    room.run(work)


def test_an_approval_that_does_not_fit_is_none(room: Room) -> None:
    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())
        room.maps._room = 3
        with pytest.raises(StockadeError) as caught:
            await desk.approve(identifier, HOUR, "uid 0")
        assert caught.value.code == "approval_failed"
        page = desk.page(identifier)
        assert page is not None and page["state"] == "pending" and desk.table.rules() == ()
        assert room.box.policy.generation == 1 and room.reasons() == []

    room.run(work)


OTHER_RULE = "- {name: a, binary: {allow: [curl]}, destination: {allow: [x.example]}, tls: passthrough}"


@pytest.mark.parametrize("before", ["", "# a comment\n", OTHER_RULE])
def test_for_always_goes_into_the_file_whatever_is_in_it(room: Room, before: str) -> None:
    room.file = Approved(room.directory / "approved.yaml")
    room.file.create()
    room.file.path.write_text(before)

    async def work(desk: Desk) -> None:
        identifier = noted(desk, refused())
        await desk.approve(identifier, Terms(Term.ALWAYS), "uid 0")
        assert room.box.policy.rules[-1].name == f"approval-{identifier}"
        assert room.file is not None and room.file.path.read_text().startswith(before)
        assert room.file.path in room.box.policy.sources

    room.run(work)
    assert room.reasons() == [Reason.RELOADED, Reason.APPROVED]


def test_the_file_says_nothing_about_what_may_run(room: Room) -> None:
    """It is read beside the policy for its rules alone."""
    room.file = Approved(room.directory / "approved.yaml")
    room.file.path.write_text("- {name: a, binary: {allow: [wget]}, destination: {allow: [x.example]}, tls: passthrough}\n")
    found = room.load(2, [])
    assert found.exec == room.box.policy.exec and found.rules[-1].name == "a"
    room.file.path.write_text("version: 1\nmode: observe\n")
    with pytest.raises(StockadeError, match=r"approved.yaml:1:1: .* bare list of rules"):
        room.load(2, [])
    room.file.path.unlink()
    with pytest.raises(StockadeError, match="cannot read"):
        room.load(2, [])
