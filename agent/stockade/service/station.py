"""What an agent has once, however many sandboxes it serves: kernel, trail, worker, sinks behind the trail, the end of its metrics."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sys
from typing import TYPE_CHECKING

from stockade.audit import Trail
from stockade.audit.sinks import Shipper
from stockade.kernel.load import Kernel
from stockade.metrics.listen import Listen
from stockade.metrics.snapshot import Sink
from stockade.service.agent import Agent
from stockade.service.observed import Observed
from stockade.service.patrol import Patrol
from stockade.service.settings import Settings
from stockade.service.workers import Workers

if TYPE_CHECKING:
    from stockade.service.exported import Exported


class Station:
    """name: of the agent, to whoever reads its metrics. listen: where they are served; None for nowhere."""

    def __init__(self, name: str, settings: Settings, kernel: Kernel, trail: Trail, workers: Workers, listen: Listen | None) -> None:
        self.settings, self.kernel, self.trail, self.workers = settings, kernel, trail, workers
        self.agent = Agent(kernel, trail, settings.failures_every, settings.control, settings.first_sandbox_user)
        self.patrol = Patrol(settings.failures_every)
        self.metrics = ""  # their address
        self.listen = listen
        self.observed: dict[int, Observed] = {}
        self._name = name
        self._exported: Exported | None = None

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Events are read and the worker is there when this returns. What is to be undone goes onto the stack. Raises StockadeError."""
        await self._export(stack)
        self._ship(stack)
        self.agent.start()
        stack.push_async_callback(self.agent.close)
        self.patrol.begin(stack)
        await self.workers.begin()

    def beside(self, settings: Settings, kernel: Kernel, stack: contextlib.AsyncExitStack) -> Station:
        """For a sandbox with programs of its own: a kernel and an agent beside these, everything else is shared. The stack ends it."""
        found = copy.copy(self)
        found.settings, found.kernel = settings, kernel
        found.agent = Agent(kernel, self.trail, settings.failures_every, settings.control, settings.first_sandbox_user)
        found.agent.sinks, found.agent.own_ports = self.agent.sinks, self.agent.own_ports
        stack.push_async_callback(found.agent.close)
        return found

    async def begin_beside(self, _stack: contextlib.AsyncExitStack) -> None:
        """Its events are read when this returns; the worker is there for everybody."""
        self.agent.start()

    def serve_metrics(self) -> None:
        """Answer whoever asks for them, from now on."""
        if self._exported is not None:
            self._exported.serve(self.settings.control)

    def leave_target(self) -> None:
        """Prometheus goes on asking for the metrics when this agent is gone, and tells that nobody answers."""
        if self._exported is not None:
            self._exported.kept = True

    def _ship(self, stack: contextlib.AsyncExitStack) -> None:
        """Begin to deliver to the sinks of the settings. Raises StockadeError for one that cannot be made."""
        audit = self.settings.configured.audit
        if not audit.sinks:
            return
        shipper = Shipper(self.trail, audit.sinks, audit.drain)
        stack.push_async_callback(asyncio.to_thread, shipper.close)
        self.agent.sinks = lambda: tuple(
            Sink(each.name, each.type, each.sent, each.retried, each.lost, each.behind, bool(each.failing))
            for each in list(shipper.standing.values())
        )

    async def _export(self, stack: contextlib.AsyncExitStack) -> None:
        """Take the port of the metrics, where there is to be one, before anything runs that could. Raises StockadeError."""
        listen = self.listen
        if listen is None:
            return
        from stockade.service.exported import Exported

        directory = self.settings.configured.metrics.targets or self.settings.run / "metrics"
        exported = Exported(
            listen, directory, self._name, lambda: [each.snapshot() for each in self.observed.values()], self.agent.namespaces
        )
        exported.open()
        self._exported = exported
        stack.push_async_callback(exported.close)
        self.agent.own_ports.add(exported.endpoint.port)
        self.metrics = f"{listen.scheme}://{exported.endpoint.address}/metrics"
        if not listen.port:
            print(f"stockade: metrics at {self.metrics}", file=sys.stderr)
        if not listen.loopback and listen.token is None:
            print(f"stockade: whoever reaches {exported.endpoint.address} may read the metrics: no token is set", file=sys.stderr)
