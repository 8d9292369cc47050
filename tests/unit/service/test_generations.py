"""Generations: one switch at a time, whole or not at all, and never two readings at once."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stockade.kernel.abi import SandboxFlag, Verdict
from stockade.policy import Policy
from stockade.service.generations import Generations, Reloaded
from stockade.service.governed import Governed
from stockade.service.watch import Watch
from stockade.types import Effect, Outcome, Reason, Record, StockadeError
from unit.service.samples import POLICY, FakeMaps, governed, policy
from unit.service.test_governed import HOSTS, OTHER, check


@dataclass
class Scene:
    """A sandbox whose policy file is rewritten and read again; everything that is told to others is kept."""

    directory: Path
    box: Governed
    maps: FakeMaps
    told: list[Policy] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    reading: Callable[[], None] = lambda: None

    async def reload(self, _sandbox: int, loaded: Policy) -> None:
        self.told.append(loaded)

    def load(self, generation: int, named: list[Path]) -> Policy:
        self.reading()
        named.append(self.directory / "policy.yaml")
        return policy(self.directory, (self.directory / "policy.yaml").read_text(), generation)

    def generations(self) -> Generations:
        return Generations(self.box, Watch(), self.load, lambda: self, lambda _governed, record: self.records.append(record))

    def write(self, text: str) -> None:
        (self.directory / "policy.yaml").write_text(text)

    def run[T](self, work: Callable[[Generations], Awaitable[T]]) -> T:
        async def main() -> T:
            return await work(self.generations())

        return asyncio.run(main())

    def switch(self, text: str) -> Record:
        """One reload with this text; its one record."""
        self.write(text)
        before = len(self.records)
        self.run(lambda generations: generations.reload("command"))
        (record,) = self.records[before:]
        return record


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    box, maps = governed(tmp_path)
    for name in HOSTS:
        box.publish(box.table.allocate(name), name)
    return Scene(tmp_path, box, maps)


def test_a_reload_is_the_new_policy_whole(scene: Scene) -> None:
    box, maps = scene.box, scene.maps
    record = scene.switch(OTHER)
    assert record.reason is Reason.RELOADED and record.outcome is Outcome.ALLOW and record.detail["cause"] == ["command"]
    assert (box.policy.generation, box.sandbox.generation, maps.switched) == (2, 2, [(2, SandboxFlag.SEALED)])
    assert scene.told == [box.policy]
    check(box, maps)
    assert {key[0] for key in (*maps.verdicts, *maps.literals)} == {2}
    box.publish(index := box.table.allocate("late.example.org"), "late.example.org")
    assert maps.named(2, 1, index, 443) is Verdict.INSPECT
    assert box.table.index_of("api.example.com") == 256, "an address means what it meant"


def test_a_name_that_is_asked_for_meanwhile_is_in_the_new_generation(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of the compilation and the switch, under the old generation."""
    box, maps = scene.box, scene.maps
    compiled = box.compile

    def compile_and_ask(new: Policy) -> None:
        compiled(new)
        box.publish(box.table.allocate("late.example.org"), "late.example.org")

    monkeypatch.setattr(box, "compile", compile_and_ask)
    scene.switch(OTHER)
    index = box.table.index_of("late.example.org")
    assert index is not None and maps.named(2, 1, index, 443) is Verdict.INSPECT
    check(box, maps)


STATIC = [
    pytest.param(("allow: [curl, git, ls]", "allow: [curl, git]"), "`exec.allow` .* would lose `ls`", id="exec.allow"),
    pytest.param(("deny: [nc]", "deny: [nc, ncat]"), "`exec.deny` .* would gain `ncat`", id="exec.deny"),
    pytest.param(("deny: [nc]", "deny: [nc], unlisted: no-network"), "was `refuse` and would be `no-network`", id="exec.unlisted"),
    pytest.param(("deny: [nc]", "deny: [nc], env: [LD_PRELOAD]"), "`exec.env` .* would gain `LD_PRELOAD`", id="exec.env"),
    pytest.param(("deny: [nc]", "deny: [nc], writable: true"), "`exec.writable`", id="exec.writable"),
    pytest.param(("name: test", "name: test\nfilesystem: {read: [/opt]}"), "`filesystem.read` .* would gain `/opt`", id="filesystem"),
    pytest.param(
        ("name: test", "name: test\nfilesystem: {count: [/opt]}"), "`filesystem.count` .* would gain `/opt`", id="filesystem.count"
    ),
    pytest.param(("name: test", "name: test\nprocess: {env: {A: secret}}"), "`process.env` .* would gain `A`", id="process"),
    pytest.param(("name: test", "name: test\nbest_effort: [lsm]"), "`best_effort` .* would gain `lsm`", id="best_effort"),
    pytest.param(("binary: {allow: [git]}", "binary: {allow: [git, wget]}"), "rule `code` names `wget`", id="a binary of a rule"),
    pytest.param(("binary: {allow: [git]}", "binary: {allow: [git], deny: [/usr/bin/git]}"), "names `/usr/bin/git`", id="a denied one"),
]


@pytest.mark.parametrize(("change", "said"), STATIC)
def test_a_reload_that_changes_what_is_static_is_refused_whole(scene: Scene, change: tuple[str, str], said: str) -> None:
    """Also the parts of it that could have been taken up."""
    box, maps = scene.box, scene.maps
    before = (dict(maps.verdicts), dict(maps.literals), set(maps.services), box.policy)
    record = scene.switch(OTHER.replace(*change))
    assert (record.reason, record.outcome, record.effect) == (Reason.RELOAD_REFUSED, Outcome.DENY, Effect.REFUSE)
    why = str(record.detail["why"])
    assert re.search(said, why), why
    assert "[static_changed]" in why and f"{scene.directory}/policy.yaml:" in why and "secret" not in why
    assert (maps.verdicts, maps.literals, maps.services, box.policy) == before
    assert maps.switched == [] and scene.told == []


def test_the_order_of_rules_is_not_static(tmp_path: Path) -> None:
    """A bare list implies what may run, in the order of its rules."""
    rules = [
        f"- name: {name}\n  binary: {{allow: [{name}]}}\n  destination: {{allow: [a.example.com]}}\n  tls: passthrough\n"
        for name in ("curl", "git")
    ]
    box, maps = governed(tmp_path, "".join(rules))
    record = Scene(tmp_path, box, maps).switch("".join(reversed(rules)))
    assert record.reason is Reason.RELOADED, record


def test_a_binary_that_may_not_run_names_the_rule_that_wants_it(tmp_path: Path) -> None:
    rule = "- name: {0}\n  binary: {{allow: [{0}]}}\n  destination: {{allow: [a.example.com]}}\n  tls: passthrough\n"
    box, maps = governed(tmp_path, rule.format("curl"))
    record = Scene(tmp_path, box, maps).switch(rule.format("curl") + rule.format("wget"))
    assert record.reason is Reason.RELOAD_REFUSED
    assert "policy.yaml:5:3: `exec.allow` cannot change while the sandbox runs: it would gain `wget`" in str(record.detail["why"])


def test_a_policy_that_does_not_load_changes_nothing(scene: Scene) -> None:
    record = scene.switch(POLICY + "unknown: key\n")
    assert record.reason is Reason.RELOAD_REFUSED and "policy.yaml:" in str(record.detail["why"])
    assert scene.box.policy.generation == 1 and scene.maps.switched == [] and scene.told == []


def test_a_bug_in_reading_is_a_refusal_and_not_the_end_of_reloads(scene: Scene) -> None:
    scene.reading = lambda: 1 / 0  # type: ignore[assignment,return-value]
    assert scene.switch(OTHER).reason is Reason.RELOAD_REFUSED
    scene.reading = lambda: None
    assert scene.switch(OTHER).reason is Reason.RELOADED


def test_a_generation_that_does_not_fit_changes_nothing(scene: Scene) -> None:
    """Half of it was written: it must not lie in wait for the next try, which has the same number."""
    box, maps = scene.box, scene.maps
    before = (dict(maps.verdicts), dict(maps.literals), set(maps.services))
    maps._room = 5
    record = scene.switch(OTHER)
    assert record.reason is Reason.RELOAD_REFUSED and scene.told == [] and maps.switched == []
    assert (maps.verdicts, maps.literals, maps.services) == before
    maps._room = 10_000
    record = scene.switch(OTHER)
    assert record.reason is Reason.RELOADED and box.policy.generation == 2
    check(box, maps)


def test_those_who_ask_at_once_share_one_reload(scene: Scene) -> None:
    scene.write(OTHER)

    async def work(generations: Generations) -> list[Reloaded]:
        return await asyncio.gather(*(generations.reload(cause) for cause in ("file", "signal", "signal", "command")))

    assert {outcome.generation for outcome in scene.run(work)} == {2}
    (record,) = scene.records
    assert record.detail["cause"] == ["file", "signal", "command"]


def test_who_asks_while_one_is_read_gets_another_and_never_two_at_once(scene: Scene) -> None:
    """Their change may have come after the reading."""
    scene.write(OTHER)
    begun, at_once, most = threading.Event(), 0, 0

    def reading() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        begun.set()
        time.sleep(0.05)
        at_once -= 1

    scene.reading = reading

    async def work(generations: Generations) -> list[int]:
        first = generations.ask("signal")
        await asyncio.to_thread(begun.wait)
        later = [generations.ask("signal") for _ in range(5)]
        return [outcome.generation for outcome in await asyncio.gather(first, *later)]

    assert scene.run(work) == [2, 3, 3, 3, 3, 3]
    assert most == 1 and len(scene.records) == 2


def test_the_loop_goes_on_while_a_policy_is_read(scene: Scene) -> None:
    """The resolver answers meanwhile."""
    scene.write(OTHER)
    scene.reading = lambda: time.sleep(0.3)

    async def work(generations: Generations) -> int:
        task, turns = generations.ask("file"), 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns

    assert scene.run(work) >= 10


def test_a_worker_that_died_does_not_keep_a_generation_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dead(_sandbox: int, _policy: Policy) -> None:
        raise ConnectionError

    monkeypatch.setattr(scene, "reload", dead)
    assert scene.switch(OTHER).reason is Reason.RELOADED and scene.box.policy.generation == 2


def test_what_is_done_between_two_generations_comes_to_its_end(scene: Scene) -> None:
    """Cancelled or not: the next writer would otherwise write beside the thread that goes on."""
    begun, ends, order = threading.Event(), threading.Event(), list[str]()

    def slow() -> None:
        begun.set()
        assert ends.wait(30)
        order.append("slow")

    async def work(generations: Generations) -> None:
        first = asyncio.create_task(generations.between(slow))
        await asyncio.to_thread(begun.wait, 30)
        second = asyncio.create_task(generations.between(lambda: order.append("next")))
        first.cancel()
        await asyncio.sleep(0)
        assert not order
        ends.set()
        await second
        with pytest.raises(asyncio.CancelledError):
            await first

    scene.run(work)
    assert order == ["slow", "next"]


def test_nothing_is_done_for_a_sandbox_that_has_ended(scene: Scene) -> None:
    """Its number is another's soon, and so would be what is written for it."""
    done = list[str]()

    async def work(generations: Generations) -> None:
        await generations.close()
        with pytest.raises(StockadeError, match="has ended"):
            await generations.between(lambda: done.append("late"))

    scene.run(work)
    assert not done
