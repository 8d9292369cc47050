"""A sandbox as its agent sees it at one moment, and the page of metrics that is made of that.

The only place that knows where each figure is kept. What it reads it reads on the agent's loop, in a millisecond; what it renders it
renders in a thread, once a second at most, however often it is asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

from stockade.metrics.endpoint import Endpoint
from stockade.metrics.listen import Listen
from stockade.metrics.samples import samples
from stockade.metrics.snapshot import Audit, Fill, Snapshot
from stockade.metrics.targets import Target, sweep
from stockade.proxy import Authority
from stockade.service.agent import Agent
from stockade.service.approvals import State
from stockade.service.control import running
from stockade.service.governed import Governed
from stockade.service.workers import Workers

log = logging.getLogger(__name__)

FRESH = 1.0  # seconds for which a page is as good as a new one


class Observed:
    """One sandbox of an agent."""

    def __init__(self, agent: Agent, governed: Governed, workers: Workers, authority: Authority, certificate: Path | None) -> None:
        """certificate: that the metrics are served with."""
        self._agent, self._governed, self._workers = agent, governed, workers
        self.metrics = ""  # where they are served
        self._certificates = {"authority": _expiry(authority.certificate_pem)}
        if certificate is not None:
            self._certificates["metrics"] = _expiry(certificate.read_bytes())

    def snapshot(self) -> Snapshot:
        agent, governed = self._agent, self._governed
        desk, ledger = agent.desks.get(governed.number), agent.ledgers[governed.number]
        fill = self._fill()
        return Snapshot(
            sandbox=governed.sandbox.name,
            id=governed.sandbox.id,
            pid=os.getpid(),
            policy=governed.policy.name,
            generation=governed.policy.generation,
            mode=governed.policy.mode,
            backend=agent.kernel.backend.value,
            ledger=ledger,
            processes=fill["tasks"].entries if "tasks" in fill else 0,
            workers=self._workers.serving,
            approvals_pending=sum(approval.state is State.PENDING for approval in desk.table) if desk is not None else 0,
            fill=fill,
            failures=agent.counted,
            certificates=self._certificates,
            audit=self._audit(),
        )

    def _audit(self) -> Audit:
        agent, counted = self._agent, self._agent.trail.counters
        return Audit(
            agent.audit_failure is not None, counted.missed, counted.checkpoints, counted.rotations, counted.failures, agent.sinks()
        )

    def _fill(self) -> dict[str, Fill]:
        governed = self._governed
        names = Fill(len(governed.table), governed.table.quota)
        try:
            found = {name: Fill(*held) for name, held in self._agent.kernel.maps.fill(governed.number).items()}
        except OSError as error:
            log.error("how full the kernel's maps are cannot be told: %s", error)
            found = {}
        return found | {"names": names}


class Exported:
    """The page of an agent, served as long as it lives. Made only where somebody said where to listen."""

    def __init__(self, listen: Listen, directory: Path, name: str) -> None:
        """directory: of targets."""
        # Imported here: most runs export nothing, and start-up time is part of the product.
        from stockade.metrics.collector import Page

        self.endpoint = Endpoint(listen, self._render)
        self._listen, self._directory, self._name = listen, directory, name
        self._page = Page()
        self._observed: Observed | None = None
        self._made: dict[str, tuple[float, tuple[bytes, str]]] = {}
        self._target = Target(directory, name)
        self.kept = False  # what is left behind when it is closed: a target that is down

    def open(self) -> None:
        """Take the port. Raises StockadeError."""
        self.endpoint.open()

    def serve(self, observed: Observed, control: Path) -> None:
        """Answer from now on, and let a Prometheus find out where. control: the directory of control sockets."""
        self._observed = observed
        self.endpoint.serve()
        try:
            self._target.write(self.endpoint.address, self._listen.scheme)
            sweep(self._directory, {*running(control), self._name})
        except OSError as error:  # whoever was told the address finds it there
            log.error("metrics: no target for Prometheus in %s: %s", self._directory, error)

    async def close(self) -> None:
        await self.endpoint.close()
        if not self.kept:
            self._target.remove()

    async def _render(self, accept: str) -> tuple[bytes, str]:
        made = self._made.get(accept)
        if made is not None and time.monotonic() - made[0] < FRESH:
            return made[1]
        assert self._observed is not None
        found = list(samples([self._observed.snapshot()], self.endpoint.requests))
        page = await asyncio.to_thread(self._page.render, found, accept)
        self._made = {accept: (time.monotonic(), page)}
        return page


def _expiry(pem: bytes) -> float:
    from cryptography import x509  # loaded by now, and not before the first fork (proxy/authority.py)

    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
