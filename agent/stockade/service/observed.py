"""A sandbox as its agent sees it at one moment: read on the agent's loop, in a millisecond. Alone knows where each figure is kept."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from stockade.metrics.snapshot import Audit, Fill, Renewing, Snapshot
from stockade.service.agent import Agent
from stockade.service.approvals import State
from stockade.service.governed import Governed
from stockade.service.renewal import Renewal
from stockade.service.workers import Workers

log = logging.getLogger(__name__)


class Observed:
    """One sandbox of an agent."""

    def __init__(self, agent: Agent, governed: Governed, workers: Workers, renewal: Renewal, certificate: Path | None) -> None:
        """certificate: that the metrics are served with."""
        self._agent, self._governed, self._workers, self._renewal = agent, governed, workers, renewal
        self.metrics = ""  # where they are served
        self._certificates = {"authority": _expiry(renewal.authority.certificate_pem)}
        if certificate is not None:
            self._certificates["metrics"] = _expiry(certificate.read_bytes())

    def snapshot(self) -> Snapshot:
        """All that `top` and the metrics show of one sandbox, as it is now."""
        agent, governed = self._agent, self._governed
        desk, ledger = agent.desks.get(governed.number), agent.ledgers[governed.number]
        fill = self._fill()
        return Snapshot(
            sandbox=governed.sandbox.name,
            namespace=governed.sandbox.namespace,
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
            certificates=self._certificates | {"signing": self._renewal.authority.signing.until},
            renewal=Renewing(self._renewal.authority.signing.due, self._renewal.renewed, self._renewal.failed, bool(self._renewal.why)),
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


def _expiry(pem: bytes) -> float:
    from cryptography import x509  # loaded by now, and not before the first fork (proxy/authority.py)

    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
