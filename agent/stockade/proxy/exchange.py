"""One request from its head to the end of its answer: judged, written ahead, counted, and its one record completed.

Knows nothing of mitmproxy. A request goes out only after `open` returned an Exchange, which is after the agent acknowledged the record.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from stockade.proxy.canonical import readings
from stockade.proxy.connection import Connection
from stockade.proxy.ladder import Admitted, Head, Refusal, judge
from stockade.proxy.screen import Verdict
from stockade.proxy.spine import Begun, Detail, Recorded
from stockade.proxy.taint import Gone
from stockade.types import Decision, Effect, Http, Level, Outcome, Reason, Record, Request


class Exchange:
    """An admitted request. The byte counts are of the bodies as they pass."""

    def __init__(self, connection: Connection, method: str, admitted: Admitted, begun: Begun, verdict: Verdict | None = None) -> None:
        self.connection, self.method, self.admitted, self.once = connection, method, admitted, begun.once
        self.verdict = verdict
        self.told: Detail = {}  # what is known at the end and was not at the beginning
        self.status: int | None = None
        self.request_bytes = self.response_bytes = 0
        self.finished = False
        self.sent = False  # all of the request has passed; of a WebSocket it never has
        self.released = time.perf_counter()  # it may go out from now on
        self._token = begun.token
        self._ruled: tuple[Any, frozenset[str]] | None = None

    @classmethod
    async def open(cls, connection: Connection, head: Head, verdict: Verdict | None = None, under: Any = None) -> Exchange | Refusal | None:
        """Judge a head and write the outcome down. Never raises for what the client sent or the agent could not do: both are refusals.

        verdict: what was found in the request, under which policy; None comes back when another one is in force by now.
        """
        served, path = connection.served, head.path.partition("?")[0][:256]
        while True:
            policy = served.policy
            if under is not None and policy is not under:
                return None
            try:
                outcome = await judged(connection, head, policy)
                path = outcome.path
                if isinstance(outcome, Refusal):
                    written = await record_refusal(connection, head.method, outcome)
                    return dataclasses.replace(outcome, approval=written.approval, record=written.id)
                if verdict is not None and verdict.effect is Effect.REFUSE:
                    return await _record_verdict(connection, head.method, outcome, verdict)
                http = Http(head.method, path if verdict is None else verdict.told(path))
                decision = outcome.decision
                record = connection.record(
                    decision.level, decision.reason, action=outcome.action, effect=Effect.PASS, decision=decision, http=http
                )
                if verdict is not None:
                    record = _with_verdict(record, verdict)
                begun = await connection.agent.begin(served.sandbox, record)
                if begun is None:
                    if served.policy is policy:  # no newer one came: nothing would be different the next time
                        return unrecorded(path)
                    continue
            except ConnectionError:
                return unrecorded(path)
            exchange = cls(connection, head.method, outcome, begun, verdict)
            if (stirred := connection.taint.stirred()) is not None:
                # The kernel tells of a foreign sender when the data is here already, so a quick worker may have asked too early.
                name = await exchange.refuse(stirred)
                if stirred is Reason.INTERRUPTED:
                    return dataclasses.replace(gone(outcome), record=name)
                continue
            if served.policy is policy or (exchange.once and exchange.denial() is None):
                return exchange
            exchange.finish(Effect.REFUSE, Reason.POLICY_CHANGED)  # reloaded while the record was on its way: once more, under the newest

    @property
    def http(self) -> Http:
        path = self.admitted.path if self.verdict is None else self.verdict.told(self.admitted.path)
        return Http(self.method, path, self.status, self.request_bytes, self.response_bytes)

    def count_request(self, data: bytes) -> bytes:
        self.request_bytes += len(data)
        return data

    def count_response(self, data: bytes) -> bytes:
        self.response_bytes += len(data)
        return data

    def finish(self, effect: Effect = Effect.PASS, reason: Reason | None = None) -> None:
        """Complete the record; only the first call counts. PASS is whatever effect it was opened with."""
        if not self.finished:
            self.connection.agent.finish(self._token, self.http, *self._end(effect, reason), self.told)

    async def refuse(self, reason: Reason) -> str | None:
        """Complete the record of a request that did not go out, or came to nothing: its name, for the answer; None where it has none."""
        if self.finished:
            return None
        try:
            return await self.connection.agent.conclude(self._token, self.http, *self._end(Effect.REFUSE, reason), self.told)
        except ConnectionError:
            return None

    def _end(self, effect: Effect, reason: Reason | None) -> tuple[Effect, Reason]:
        self.finished = True
        verdict = self.verdict
        if verdict is not None and verdict.ask is not None:
            verdict.ask.close()
            self.told |= verdict.ask.said()
            if verdict.ask.failure is not None and reason is None:
                reason = Reason.PRIVACY_LOCAL_FAILURE
        if verdict is not None and effect is Effect.PASS:
            effect, reason = verdict.effect, reason or verdict.reason
        return effect, reason or self.admitted.decision.reason

    def denial(self) -> Decision | None:
        """What the newest policy has against this request, if anything. That its one approval is used up is nothing: it used it."""
        for decision in self._decisions():
            if not decision.passes and not (self.once and decision.reason is Reason.NO_RULE):
                return decision
        return None

    def rules(self) -> frozenset[str]:
        """The rules by which the newest policy lets it pass."""
        policy = self.connection.served.policy
        if self._ruled is None or self._ruled[0] is not policy:
            self._ruled = policy, frozenset(decision.rule for decision in self._decisions() if decision.rule is not None)
        return self._ruled[1]

    def _decisions(self) -> Iterator[Decision]:
        connection = self.connection
        for caller in filter(None, (connection.caller, connection.taint.caller)):
            assert caller.host is not None
            for path in readings(self.admitted.path):
                request = Request(caller.binary, caller.host, caller.port, self.method, path, caller.ancestry)
                yield connection.decider(request, connection.served.policy)


async def judged(connection: Connection, head: Head, policy: Any) -> Admitted | Refusal:
    """What the policy says to a head: to the program that opened the connection, and to the one that speaks on it beside that."""
    assert connection.caller is not None
    outcome = judge(head, connection.caller, policy, connection.decider)
    if isinstance(outcome, Refusal):
        return outcome
    try:
        other = await connection.other()
    except Gone:
        return gone(outcome)
    if other is None:
        return outcome
    theirs = judge(head, other, policy, connection.decider)
    if isinstance(theirs, Refusal):
        said = f"{other.binary.path} speaks on this connection too, and may not do this itself"
        return dataclasses.replace(theirs, reason=Reason.SOCKET_TAINTED, error=said, hint="each program has to open its own connection")
    return dataclasses.replace(outcome if theirs.decision.allowed else theirs, rules=outcome.rules | theirs.rules)


def _with_verdict(record: Record, verdict: Verdict) -> Record:
    """The record of a request that was read: what it says beside what it said of the head."""
    return dataclasses.replace(
        record,
        action=verdict.action,
        outcome=Outcome.ALLOW if verdict.allowed else Outcome.DENY,
        effect=verdict.effect,
        level=Level.PRIVACY,
        reason=verdict.reason,
        rule=verdict.rule or record.rule,
        enforced=record.enforced and (verdict.allowed or verdict.effect is Effect.REFUSE),
        detail=record.detail | verdict.detail,
    )


async def _record_verdict(connection: Connection, method: str, admitted: Admitted, verdict: Verdict) -> Refusal:
    """Raises ConnectionError."""
    http = Http(method, verdict.told(admitted.path), verdict.status.value)
    record = connection.record(Level.PRIVACY, verdict.reason, decision=admitted.decision, http=http, detail={"error": verdict.error[:1024]})
    written = await connection.agent.record(connection.served.sandbox, dataclasses.replace(_with_verdict(record, verdict), enforced=True))
    refusal = Refusal(Level.PRIVACY, verdict.reason, verdict.error, admitted.path, verdict.hint, admitted.decision, verdict.action)
    return dataclasses.replace(refusal, record=written.id)


async def record_refusal(connection: Connection, method: str, refusal: Refusal) -> Recorded:
    """The one record of a refused request. Raises ConnectionError when it cannot be written."""
    record = connection.record(
        refusal.level,
        refusal.reason,
        action=refusal.action,
        decision=refusal.decision,
        http=Http(method[:64], refusal.path, 403),
        detail={"error": refusal.error[:1024]},
    )
    if refusal.decision is None:
        record = dataclasses.replace(record, generation=getattr(connection.served.policy, "generation", None))
    return await connection.agent.record(connection.served.sandbox, record)


def gone(admitted: Admitted) -> Refusal:
    """The policy allows it, and it does not go out: whether it was the client's own request can no longer be told."""
    said = "the client is gone, and with it what is known of who spoke"
    return Refusal(
        Level.BINARY, Reason.INTERRUPTED, said, admitted.path, "wait for the answer", decision=admitted.decision, action=admitted.action
    )


def unrecorded(path: str) -> Refusal:
    hint = "the audit trail of the host cannot be written: ask its administrator"
    return Refusal(Level.STATIC, Reason.AUDIT_UNAVAILABLE, "the decision could not be recorded", path, hint)
