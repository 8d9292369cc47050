"""The desk where refused requests wait for a person: one sandbox's table of approvals, at work.

Owns what the table does not: the clock, the records of who said what, the file of what was approved for always, and that every answer
becomes a generation before anybody is told of it. A request that was approved once is taken off the table in the very turn of the loop in
which it is let through.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stockade.policy import Policy, Rule
from stockade.service.approvals import (
    Approval,
    Approvals,
    Json,
    Term,
    decisions,
    demand_effect,
    for_the_sandbox,
    wanted_of,
    with_rules,
)
from stockade.service.approved import Approved
from stockade.service.generations import Detail, Generations, Write
from stockade.service.governed import Governed
from stockade.types import Action, Destination, Effect, Level, Outcome, Reason, Record, Request, StockadeError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is approved, and for how long. seconds: of Term.FOR. methods, paths, port: instead of those that were refused."""

    term: Term = Term.ONCE
    seconds: float = 0.0
    methods: Sequence[str] = ()
    paths: Sequence[str] = ()
    port: int | None = None


def boottime() -> float:
    """Seconds, also of a machine that slept: an hour is an hour."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Desk:
    """file: None when no `--approvals` was given. write takes each record and does not raise."""

    def __init__(
        self,
        governed: Governed,
        table: Approvals,
        generations: Generations,
        file: Approved | None,
        write: Write,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.table = table
        self._governed, self._generations, self._file, self._write, self._clock = governed, generations, file, write, clock
        self._under_way: dict[int, tuple[str, int | None, Sequence[Rule]]] = {}  # token of a request that was approved once
        self._withdrawing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None  # of what has expired
        self._left_open = False  # a rule that is over could not be taken out: `take` refuses what rests on it, `look` tries again

    # from the sandbox

    def note(self, record: Record) -> str | None:
        """The id under which a person may approve what this record refuses, put into the record too; None when nobody can.

        Who asks is what the agent itself knows of that exec: a worker is not believed.
        """
        if record.exec_id is None or not self._governed.knows(record.exec_id):
            return None
        binary = self._governed.binary(0, record.exec_id)
        wanted = wanted_of(dataclasses.replace(record, binary=binary), self._governed.policy)
        if wanted is None:
            return None
        approval = self.table.note(wanted, binary, time.time())
        record.detail["approval"] = approval.id
        return approval.id

    def page(self, identifier: str) -> Json | None:
        """What the sandbox may read of one approval."""
        approval = self.table.find(identifier)
        return for_the_sandbox(approval) if approval is not None else None

    def take(self, record: Record) -> Sequence[Rule] | None:
        """The rules of approvals for one request that this one, about to be let through, uses up.

        None: it rests on an approval that is used up, expired or taken back, and that the worker's policy still has.
        """
        if not self.table.answered or record.binary is None or record.destination is None or record.http is None:
            return ()
        at, http = record.destination, record.http
        asked = Request(record.binary, at.host, at.port, http.method, http.path, record.ancestry)
        policy = self._governed.policy_of(record.generation or 0)
        found = (self.table.of_rule(decision.rule) for decision in decisions(asked, policy) if decision.allowed)
        named = {approval.id: approval for approval in found if approval is not None}.values()
        if any(approval.rule is None for approval in named):
            return None
        once = [approval for approval in named if approval.term is Term.ONCE]
        rules = [rule for approval in once if (rule := self.table.consume(approval)) is not None]
        for approval in once:
            self._record(approval, Outcome.ALLOW, Reason.APPROVAL_CONSUMED)
        if once:
            self._withdrawing = asyncio.create_task(self._withdraw())
            self._withdrawing.add_done_callback(_log_failure)
        return rules

    async def withdrawn(self) -> None:
        """Until what was used up is no longer in force anywhere. Raises what kept it there."""
        if self._withdrawing is not None:
            await asyncio.shield(self._withdrawing)

    def began(self, token: int, record: Record, rules: Sequence[Rule]) -> None:
        """A request that used up these rules is under way: it may still dial where they lead."""
        if rules and record.destination is not None:
            self._under_way[token] = record.destination.host, record.destination.port, rules

    def over(self, token: int) -> None:
        self._under_way.pop(token, None)

    def policy_for(self, host: str, port: int, generation: int) -> Policy:
        """The policy by which an address of this host may be dialled, for a request that passed under this generation."""
        rules = [rule for at, on, own in self._under_way.values() if (at, on) == (host, port) for rule in own]
        return with_rules(self._governed.policy_of(generation), rules)

    # from people

    async def approve(self, identifier: str, terms: Terms, by: str) -> Approval:
        """Returns when it is in force. Raises StockadeError; then nothing has changed."""
        if terms.term is Term.ALWAYS and self._file is None:
            hint = "stockade run --approvals FILE …; or --for 8h"
            raise StockadeError("this sandbox was started without a file to keep approvals in", hint=hint, code="no_approvals_file")
        timed = terms.term is Term.FOR
        until, ends = (self._clock() + terms.seconds, time.time() + terms.seconds) if timed else (None, None)
        approval = self.table.approve(
            identifier, terms.term, by, until=until, ends=ends, methods=terms.methods, paths=terms.paths, port=terms.port
        )
        try:
            if terms.term is Term.ALWAYS:
                await self._keep(approval, by)
            else:
                await self._generations.renew(lambda policy: demand_effect(approval, policy))
        except OSError as error:
            self.table.reopen(approval)
            raise StockadeError(f"{identifier} is not in force: {error}", code="approval_failed") from None
        except BaseException:
            self.table.reopen(approval)
            raise
        self.table.confirm(approval)
        self._record(approval, Outcome.ALLOW, Reason.APPROVED)
        return approval

    async def _keep(self, approval: Approval, by: str) -> None:
        """Into the file, and from there into force. Raises StockadeError, OSError."""
        assert self._file is not None and approval.rule is not None
        rules = [approval.rule]
        await asyncio.to_thread(lambda: demand_effect(approval, with_rules(self._governed.policy, rules)))
        await asyncio.to_thread(self._file.add, approval.text)
        outcome = await self._generations.reload(f"approval of {by}")
        if not outcome.switched:
            await asyncio.to_thread(self._file.remove, approval.text)
            raise StockadeError(f"{approval.id} is not in force, because the policy does not load:\n{outcome.why}", code="approval_failed")

    async def deny(self, identifier: str, by: str) -> Approval:
        """Returns when what it had opened is closed. Raises StockadeError."""
        approval = self.table.find(identifier)
        was_open = approval is not None and approval.rule is not None
        approval = self.table.deny(identifier, by)
        if was_open:
            await self._withdraw()
        self._record(approval, Outcome.DENY, Reason.APPROVAL_DENIED)
        return approval

    def look(self) -> None:
        """Close what has expired, and what could not be closed before. From time to time, on the loop."""
        if not self.table.answered or (self._closing is not None and not self._closing.done()):
            return
        over = self.table.expire(self._clock())
        if over or self._left_open:
            self._closing = asyncio.create_task(self._close(over))

    async def _close(self, over: Sequence[Approval]) -> None:
        try:
            await self._withdraw()
        except Exception as error:  # the next look tries again
            log.error("%s", error)
        for approval in over:
            self._record(approval, Outcome.DENY, Reason.APPROVAL_EXPIRED)

    async def _withdraw(self) -> None:
        """A generation without the rules that are over. Raises StockadeError."""
        self._left_open = True
        try:
            await self._generations.renew()
        except OSError as error:
            message = f"no new request gets through, but what is open cannot be cut yet: {error}"
            raise StockadeError(message, hint="stop the sandbox if it must be", code="approval_failed") from None
        self._left_open = False

    def _record(self, approval: Approval, outcome: Outcome, reason: Reason) -> None:
        wanted = approval.wanted
        detail: Detail = {"approval": approval.id, "by": approval.by}
        detail |= {name: value for name, value in (("method", wanted.method), ("path", wanted.path)) if value is not None}
        if reason is Reason.APPROVED and approval.term is not None:
            detail["term"] = approval.term.value
            if approval.rule is not None and approval.rule.method is not None and approval.rule.path is not None:
                detail |= {"methods": list(approval.rule.method.allow), "paths": list(approval.rule.path.allow.globs)}
        record = Record(
            Action.POLICY,
            outcome,
            Effect.PASS if outcome is Outcome.ALLOW else Effect.REFUSE,
            Level.STATIC,
            reason,
            rule=approval.rule_name,
            binary=approval.asker,
            destination=Destination(wanted.host, wanted.port),
            detail=detail,
        )
        self._write(self._governed, record)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s", error)
