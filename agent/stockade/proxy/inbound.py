"""A connection that comes in: bytes between a peer outside and a listener inside, both of which the agent connected and handed over.

Nothing is parsed and nobody dialled. The agent decided who may come in; what is looked at again here is whether the newest policy agrees.
"""

from __future__ import annotations

import contextlib
import socket

from stockade.policy.neighbour import visitor
from stockade.proxy.connection import Served
from stockade.proxy.relay import Cut, Relay
from stockade.proxy.settings import Settings
from stockade.proxy.spine import Passed
from stockade.types import Reason


class Passage:
    """From handing over to close. `live` of itself: what comes in has nothing beside its bytes."""

    def __init__(self, served: Served, port: int, source: str, outer: socket.socket, inner: socket.socket, settings: Settings) -> None:
        self._served, self._port, self._outer, self._inner = served, port, outer, inner
        self._visitor = visitor(source)
        self._relay = Relay(outer, "", tls=False, settings=settings)
        self._reason = Reason.RULE_ALLOW

    @property
    def live(self) -> Passage:
        return self

    async def run(self) -> Passed:
        """Until both sides are done, or it is cut."""
        with self._outer, self._inner:
            await self.redecide()  # the policy may be newer than the one that let it in
            with contextlib.suppress(Cut):
                await self._relay.join(self._inner)
        return Passed(self._relay.sent, self._relay.received, self._reason)

    async def redecide(self) -> None:
        if not self._served.policy.admits(self._port, self._visitor):
            self._end(Reason.POLICY_CHANGED)

    def interrupt(self) -> None:
        self._end(Reason.INTERRUPTED)

    def cut(self) -> None:
        self._relay.cut()

    def reset(self) -> None:
        self._relay.cut()

    def _end(self, reason: Reason) -> None:
        self._reason = reason
        self._relay.cut()
