"""What one worker asks, answered by the agent of the sandbox that it asks for: an agent has one kernel, a worker serves several.

Knows nothing but who answers for which number. What a worker may ask at all, and for whom, is checked before (proxy/fork.py).
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from stockade.kernel.abi import Origin
from stockade.metrics.figures import Figures
from stockade.proxy import Begun, Caller, Resolved
from stockade.proxy.spine import Detail, Local, Recorded, Unreached
from stockade.types import Effect, Http, Reason, Record

if TYPE_CHECKING:
    from stockade.service.agent import Agent


class Spines:
    """The `Spine` of a worker. agents: by the number of the sandbox."""

    def __init__(self) -> None:
        self.agents: dict[int, Agent] = {}
        self._begun: dict[int, Agent] = {}  # by the token of a request: who wrote it ahead

    def forget(self, number: int) -> None:
        """The sandbox has ended. What it had open the worker says to its end."""
        self.agents.pop(number, None)

    def lost(self) -> None:
        """The worker is gone, and says nothing more of what it had begun."""
        self._begun.clear()

    async def identify(self, origin: Origin) -> Caller:
        return await self.agents[origin.sandbox].identify(origin)

    async def resolve(self, origin: Origin, generation: int) -> Resolved:
        return await self.agents[origin.sandbox].resolve(origin, generation)

    async def reach(self, origin: Origin, generation: int) -> socket.socket | Unreached:
        return await self.agents[origin.sandbox].reach(origin, generation)

    async def local(self, sandbox: int, generation: int) -> Local:
        return await self.agents[sandbox].local(sandbox, generation)

    async def record(self, sandbox: int, record: Record) -> Recorded:
        return await self.agents[sandbox].record(sandbox, record)

    async def begin(self, sandbox: int, record: Record) -> Begun | None:
        agent = self.agents[sandbox]
        begun = await agent.begin(sandbox, record)
        if begun is not None:
            self._begun[begun.token] = agent
        return begun

    async def approval(self, sandbox: int, identifier: str) -> dict[str, Any] | None:
        return await self.agents[sandbox].approval(sandbox, identifier)

    async def finish(self, token: int, http: Http | None, effect: Effect, reason: Reason, detail: Detail | None = None) -> str:
        return await self._begun.pop(token).finish(token, http, effect, reason, detail)

    def figures(self, sandbox: int, figures: Figures) -> None:
        self.agents[sandbox].figures(sandbox, figures)
