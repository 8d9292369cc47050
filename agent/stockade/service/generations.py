"""The generations of one sandbox's policy: what is on disk, and the rules that were approved beside it, in force one after the other.

Owns the order of a switch, and that there is one at a time: read and compile off the loop, then the kernel in one map update, then the
worker, which cuts what the new generation denies; then the old verdicts go. Whatever fails before the map update changes nothing. Decides
nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stockade.memory import unhurried
from stockade.policy import Policy, PolicyError, Problem, Rule
from stockade.policy.summary import summary
from stockade.service.approvals import with_rules
from stockade.service.governed import Governed
from stockade.service.watch import Watch
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, StockadeError

log = logging.getLogger(__name__)

Detail = dict[str, str | int | list[str]]
Write = Callable[[Governed, Record], None]


class Load(Protocol):
    """Reads what the user named, from disk. Called in a thread. Raises StockadeError. named takes up every path that was looked for."""

    def __call__(self, generation: int, named: list[Path]) -> Policy: ...


class Reloads(Protocol):
    """A worker, as far as a switch needs it. Raises ConnectionError."""

    async def reload(self, sandbox: int, policy: Policy) -> None: ...


class Ports(Protocol):
    """What is open on the host for others to come in by."""

    def open(self, policy: Policy) -> None:
        """What it wants open, beside what is. Raises StockadeError with everything as it was."""

    def settle(self) -> None:
        """Shut what the policy in force does not want."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of one reload. generation: the one in force now. why: what kept the new one out; problems: the same, located.

    Microseconds: read_us from the files to the policy, switch_us from there until kernel and worker decide by it.
    """

    generation: int
    why: str = ""
    problems: tuple[Problem, ...] = ()
    read_us: int = 0
    switch_us: int = 0

    @property
    def switched(self) -> bool:
        return not self.why


class Generations:
    """One sandbox's. watch: has seen the reading of the policy that the sandbox was started with.

    rules: what is in force beside the policy on disk. write: takes the record of every reload, and does not raise.
    """

    def __init__(
        self,
        governed: Governed,
        watch: Watch,
        load: Load,
        worker: Callable[[], Reloads],
        write: Write,
        rules: Callable[[], tuple[Rule, ...]] = tuple,
        ports: Ports | None = None,
    ) -> None:
        self._governed, self._watch, self._load, self._worker = governed, watch, load, worker
        self._write, self._rules, self._ports = write, rules, ports
        self._on_disk = governed.policy  # as it was read last
        self.prepare: Callable[[Policy, Sequence[Rule]], Awaitable[None]] | None = None  # before a switch; what it raises keeps it out
        self.kept: Callable[[], None] = lambda: None  # called when that is another one, and in force
        self._turn = asyncio.Lock()
        self._asked: tuple[asyncio.Task[Reloaded], list[str]] | None = None  # the reload that has not begun, and who wants it
        self._running: set[asyncio.Task[Reloaded]] = set()
        self._closed = False

    @property
    def on_disk(self) -> Policy:
        """The policy as it was read last, without the rules beside it."""
        return self._on_disk

    async def reload(self, cause: str) -> Reloaded:
        """Read the policy again. Whoever asks before a reload has begun shares it; while one runs, one more follows."""
        return await asyncio.shield(self.ask(cause))

    def ask(self, cause: str) -> asyncio.Task[Reloaded]:
        """Ask for a reload, and do not wait for it."""
        if self._asked is None:
            causes: list[str] = []
            task = asyncio.create_task(self._reload(causes))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            self._asked = task, causes
        task, causes = self._asked
        if cause not in causes:
            causes.append(cause)
        return task

    async def close(self) -> None:
        """Let what is under way come to its end, and begin nothing more: the number of a sandbox that has ended is another's soon."""
        self._closed = True
        async with self._turn:
            pass
        await asyncio.gather(*self._running, return_exceptions=True)

    async def renew(self, check: Callable[[Policy], None] | None = None) -> int:
        """Put the policy as it was read last, with the rules that are now beside it, in force. Returns its generation.

        check is called with it before, in a thread. What that raises, and OSError, leaves everything as it was.
        """
        async with self._turn:
            if self._closed:
                raise StockadeError("the sandbox has ended", code="ended")
            with unhurried():
                await self._switch(self._on_disk, check)
            return self._governed.policy.generation

    async def _reload(self, causes: list[str]) -> Reloaded:
        async with self._turn:
            self._asked = None  # the files are read from here on: whoever comes now may have changed them since
            governed = self._governed
            if self._closed:
                return Reloaded(governed.policy.generation, "the sandbox has ended")
            begun = read = time.perf_counter_ns()
            try:
                with unhurried():
                    found = await asyncio.to_thread(self._read)
                    read = time.perf_counter_ns()
                    switched = await self._switch(found)
            except Exception as error:  # whatever it is, the old policy is in force, and the next reload must find somebody to ask
                if not isinstance(error, StockadeError | OSError):
                    log.exception("reload failed")
                why = str(error) or type(error).__name__
                problems = error.problems if isinstance(error, PolicyError) else ()
                self._record(Outcome.DENY, Reason.RELOAD_REFUSED, {"why": _without_source(problems) or why, "cause": causes})
                log.error("policy not reloaded: %s", why)
                return Reloaded(governed.policy.generation, why, problems)
            read_us, switch_us = (read - begun) // 1000, (switched - read) // 1000
            detail: Detail = {"sources": [str(path) for path in found.sources], "cause": causes, "read_us": read_us, "switch_us": switch_us}
            detail |= await asyncio.to_thread(summary, found)  # of many rules: the loop has others to answer
            self._record(Outcome.ALLOW, Reason.RELOADED, detail)
            return Reloaded(governed.policy.generation, read_us=read_us, switch_us=switch_us)

    def _read(self) -> Policy:
        """In a thread."""
        with self._watch.reading() as named:
            found = self._load(self._governed.policy.generation + 1, named)
            named += found.sources
            self._governed.demand(self._on_disk, found)
        return found

    async def between[T](self, work: Callable[[], T]) -> T:
        """Do it in a thread, while no generation is made: to its end, also when whoever asked is cancelled. Raises StockadeError when the
        sandbox has ended: its number is another's soon."""
        async with self._turn:
            if self._closed:
                raise StockadeError("the sandbox has ended", code="ended")
            doing = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(doing)
            except asyncio.CancelledError:
                await asyncio.wait({doing})  # a thread cannot be stopped, and nobody else may write meanwhile
                raise

    async def _switch(self, on_disk: Policy, check: Callable[[Policy], None] | None = None) -> int:
        """Returns when it was in force everywhere, in ns of perf_counter."""
        governed, rules = self._governed, self._rules()

        def compiled() -> Policy:
            following = governed.policy.generation + 1
            policy = with_rules(on_disk if on_disk.generation == following else on_disk.with_generation(following), rules)
            if check is not None:
                check(policy)
            governed.compile(policy)
            return policy

        if self.prepare is not None:
            await self.prepare(on_disk, rules)
        if self._ports is not None:
            self._ports.open(on_disk)
        try:
            policy = await asyncio.to_thread(compiled)
            governed.switch(policy)
        except OSError:  # half of it may be written, and the next one has the same number
            await self._forget_others()
            raise
        finally:
            if self._ports is not None:
                self._ports.settle()
        if on_disk is not self._on_disk:
            self._on_disk = on_disk
            self.kept()
        with contextlib.suppress(ConnectionError):  # it just died: the next worker is given the policy in force
            await self._worker().reload(governed.number, policy)
        switched = time.perf_counter_ns()
        await self._forget_others()
        return switched

    async def _forget_others(self) -> None:
        try:
            await asyncio.to_thread(self._governed.forget_others)
        except OSError as error:  # they take room, and decide nothing
            log.error("verdicts of other generations stay in the kernel: %s", error)

    def _record(self, outcome: Outcome, reason: Reason, detail: Detail) -> None:
        effect = Effect.PASS if outcome is Outcome.ALLOW else Effect.REFUSE
        self._write(self._governed, Record(Action.POLICY, outcome, effect, Level.STATIC, reason, detail=detail))


def _without_source(problems: Sequence[Problem]) -> str:
    """A line for each. The text of the line may hold a secret (`process.env`): that goes to root's terminal and into no record."""
    places = ((f"{each.path}:{each.line}:{each.column}" if each.line else each.path, each) for each in problems)
    return "\n".join(f"{place}: {each.message} [{each.code}]" for place, each in places)
