"""The requests of one inspected connection, from head to end: judged, read where the policy wants it, answered by us or passed on.

Owns the exchanges that are open. Sockets, TLS and timers are its carrier's (handler.py); what is done to mitmproxy's own objects is in
flows.py.
"""

from __future__ import annotations

import dataclasses
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mitmproxy import flow as mflow
from mitmproxy import http

from stockade.metrics.figures import Stage
from stockade.policy import own
from stockade.privacy.local import LocalFailure
from stockade.proxy import refusal
from stockade.proxy.detour import Detours
from stockade.proxy.exchange import Exchange
from stockade.proxy.flows import admit, declared, head_of, read_answer, rewrite
from stockade.proxy.ladder import Head, Refusal
from stockade.proxy.layers import ANSWER, BY_CLIENT, HANG_UP, HOLDING, Answer
from stockade.proxy.screen import Screening, Verdict
from stockade.proxy.taint import Gone
from stockade.types import Action, Effect, Level, Reason

if TYPE_CHECKING:
    from stockade.proxy.handler import Handler

EXCHANGE = "stockade.exchange"
SCREENING = "stockade.screening"


class Requests:
    """exchanges: those that are open, by flow. waiting: flows whose bodies are awaited or looked at, before they are exchanges."""

    def __init__(self, carrier: Handler) -> None:
        self._carrier, self._connection, self._engine = carrier, carrier.connection, carrier.engine
        self.exchanges: dict[str, Exchange] = {}
        self.waiting: set[str] = set()
        self.detours = Detours()

    async def begun(self, flow: http.HTTPFlow) -> None:
        self._carrier.busy()
        head, outcome = head_of(flow), None
        while outcome is None:  # a policy that came while it was judged may want it read
            policy, screening = self._connection.served.policy, None
            if head.malformed is None:
                screening = await self._engine.router.screening(self._connection, head, self._engine.budget)
            if screening is not None:
                flow.metadata[SCREENING], flow.metadata[HOLDING] = screening, screening.holding
                self.waiting.add(flow.id)
                if not screening.holding.grow(declared(flow.request)):
                    await self.whole(flow, None)
                return
            began = time.perf_counter()
            outcome = await Exchange.open(self._connection, head, under=policy)
            self._connection.served.meter.since(Stage.DECIDE, began)
        if isinstance(outcome, Refusal):
            self._refuse(flow, outcome, head.method, hang_up=head.malformed is not None)
            return
        if self._carrier.host == own.HOST:
            await self._answer_own(flow, outcome)
            return
        self._admit(flow, outcome)
        flow.request.stream = outcome.count_request

    def _admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        flow.metadata[EXCHANGE] = exchange
        self.exchanges[flow.id] = exchange
        admit(flow.request, exchange.admitted)

    def _refuse(self, flow: http.HTTPFlow, refused: Refusal, method: str, *, hang_up: bool = False, body: bytes | None = None) -> None:
        told = refusal.named(body, refused) if body is not None else refusal.body(refused, self._carrier.caller, method)
        flow.metadata[ANSWER] = Answer(told)
        if hang_up:
            flow.metadata[HANG_UP] = True
        else:
            flow.error = mflow.Error(mflow.Error.KILLED_MESSAGE)
        self._carrier.refused = True
        self._carrier.idle()

    async def whole(self, flow: http.HTTPFlow, body: bytes | None) -> None:
        """A body is there, or is too long to wait for: what is in it decides, under the newest policy."""
        screening: Screening = flow.metadata.pop(SCREENING)
        head = screening.head
        try:
            while True:
                policy, began = self._connection.served.policy, time.perf_counter()
                verdict = await self._engine.router.verdict(self._connection, screening, policy, body)
                self._connection.served.meter.since(Stage.CLASSIFICATION, began)
                began = time.perf_counter()
                outcome = await Exchange.open(self._connection, head, verdict, policy)
                self._connection.served.meter.since(Stage.DECIDE, began)
                if isinstance(outcome, Exchange) and verdict is not None and verdict.ask is not None:
                    verdict, outcome = await self._asked(flow, head, outcome, verdict, policy)
                if outcome is not None:
                    break
        finally:
            self.waiting.discard(flow.id)
            screening.holding.release()
        if isinstance(outcome, Refusal):
            self._refuse(flow, outcome, head.method, body=verdict.refusal if verdict is not None else None)
            return
        self._admit(flow, outcome)
        outcome.sent = body is not None and outcome.admitted.action is not Action.WEBSOCKET
        flow.request.trailers = None  # nobody looked at them
        if body is None:
            flow.request.stream = outcome.count_request
            return
        if verdict is not None:
            rewrite(flow.request, verdict)
            if verdict.ask is not None:
                self.detours.lead(flow.request, outcome, verdict.ask)
                return
        outcome.count_request(flow.request.raw_content or b"")

    async def _asked(
        self, flow: http.HTTPFlow, head: Head, exchange: Exchange, verdict: Verdict, policy: Any
    ) -> tuple[Verdict, Exchange | Refusal | None]:
        """Wait until the local model begins to answer. A call that it does not take and that goes somewhere else is opened anew, with a
        record of its own: by then two places may have got it.
        """
        assert verdict.ask is not None and verdict.otherwise is not None
        self.exchanges[flow.id] = exchange  # whatever ends the connection meanwhile ends this too
        exchange.sent = True  # it is here, and was read
        try:
            await verdict.ask.begin()
        except LocalFailure as failure:
            otherwise = verdict.otherwise(failure)
            self.exchanges.pop(flow.id, None)
            gone = exchange.finished
            name = await exchange.refuse(otherwise.reason)
            if not gone and otherwise.effect is not Effect.REFUSE:
                return otherwise, await Exchange.open(self._connection, head, otherwise, policy)
            path, decision = exchange.admitted.path, exchange.admitted.decision
            refused = Refusal(Level.PRIVACY, otherwise.reason, otherwise.error, path, otherwise.hint, decision, otherwise.action)
            return otherwise, dataclasses.replace(refused, record=name)
        return verdict, exchange

    async def _answer_own(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """A page of stockade.internal: nobody is dialled."""
        identifier = own.approval_of(exchange.admitted.path)
        assert identifier is not None, "the ladder admits nothing else"
        page = await self._connection.agent.approval(self._connection.served.sandbox, identifier)
        status = HTTPStatus.NOT_FOUND if page is None else HTTPStatus.OK
        answer = Answer(json.dumps(page or {"error": f"no approval {identifier} in this sandbox"}).encode() + b"\n", status)
        exchange.status, exchange.response_bytes = status, len(answer.body)
        exchange.finish()
        flow.metadata[ANSWER] = answer
        flow.error = mflow.Error(mflow.Error.KILLED_MESSAGE)
        self._carrier.idle()

    def answered(self, flow: http.HTTPFlow) -> None:
        exchange = _exchange(flow)
        assert flow.response is not None
        if exchange is not None:
            self._connection.served.meter.since(Stage.FIRST_BYTE, exchange.released)
            exchange.status = flow.response.status_code
            flow.response.stream = exchange.count_response
            if exchange.verdict is not None and exchange.verdict.answer is not None:
                read_answer(flow, exchange, exchange.verdict, h2=self._carrier.client.alpn == b"h2")

    async def failed(self, flow: http.HTTPFlow) -> None:
        exchange = _exchange(flow)
        if exchange is None or exchange.finished:
            return
        if flow.metadata.get(BY_CLIENT):
            self.over(flow, Effect.PASS, Reason.INTERRUPTED)
            return
        message = flow.error.msg if flow.error is not None else "the server failed"
        failure = self._carrier.failure
        reason = failure.reason if failure is not None and str(failure) == message else Reason.UPSTREAM_ERROR
        if exchange.status is None:
            refused = Refusal(Level.DESTINATION, reason, message[:1024], exchange.admitted.path)
            refused = dataclasses.replace(refused, record=await exchange.refuse(reason))
            flow.metadata[ANSWER] = Answer(refusal.body(refused, self._carrier.caller, exchange.method))
            self.over(flow)
        else:
            self.over(flow, Effect.PASS, reason)

    async def said(self, flow: http.HTTPFlow) -> None:
        assert flow.websocket is not None
        message = flow.websocket.messages[-1]
        flow.websocket.messages.clear()  # kept for ever otherwise
        exchange = _exchange(flow)
        if exchange is None or exchange.finished:
            message.drop()  # type: ignore[no-untyped-call]  # killing the flow stops no message
            self._carrier.cut()
        elif message.from_client and self._connection.enforced and (stirred := self._connection.taint.stirred()) is not None:
            message.drop()  # type: ignore[no-untyped-call]  # what passes inside is not judged: it is for who was, when it was opened
            exchange.finish(Effect.CUT, stirred)
            self._carrier.spawn(self._spoken_over())
        elif message.from_client:
            verdict = await self._engine.router.message(self._connection, exchange, message.content)
            if verdict is not None and verdict.effect is Effect.REFUSE:
                message.drop()  # type: ignore[no-untyped-call]
                exchange.told |= verdict.detail | {"error": verdict.error[:1024]}
                exchange.finish(Effect.CUT, verdict.reason)
                self._carrier.cut()
            elif not exchange.finished:
                if verdict is not None:
                    exchange.told |= verdict.detail | {"found": verdict.reason.value}
                    message.content = message.content if verdict.body is None else verdict.body
                exchange.count_request(message.content)
        else:
            exchange.count_response(message.content)

    async def _spoken_over(self) -> None:
        try:
            await self._connection.other()
        except Gone:
            self._carrier.cut()
        else:
            await self._connection.cut_and_record(Level.BINARY, Reason.SOCKET_TAINTED)

    def sent(self, flow: http.HTTPFlow) -> None:
        """All of it has passed; a WebSocket has only begun."""
        exchange = _exchange(flow)
        if exchange is not None:
            exchange.sent = exchange.admitted.action is not Action.WEBSOCKET

    def withdrawn(self) -> dict[str, Exchange]:
        """Those that the newest policy denies, or that go on unread where it wants them read, by flow."""
        left: dict[str, Exchange] = {}
        for flow, exchange in self.exchanges.items():
            if exchange.finished:
                continue
            if exchange.denial() is not None:
                left[flow] = exchange
            elif self._engine.router.unread(self._connection, exchange):
                exchange.told["error"] = "it began before the policy wanted it read"
                left[flow] = exchange
        return left

    def over(self, flow: http.HTTPFlow, effect: Effect = Effect.PASS, reason: Reason | None = None) -> None:
        exchange = self.exchanges.pop(flow.id, None)
        if exchange is not None:
            exchange.finish(effect, reason)
            self._carrier.idle()

    def interrupt(self) -> None:
        """Whatever ends the connection ends the open records with it."""
        for exchange in self.exchanges.values():
            exchange.finish(Effect.CUT, Reason.INTERRUPTED)
        self.exchanges.clear()


def _exchange(flow: http.HTTPFlow) -> Exchange | None:
    exchange: Exchange | None = flow.metadata.get(EXCHANGE)
    return exchange
