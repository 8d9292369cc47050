"""A sandbox at one moment: everything that a metric, `status` or `top` shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stockade.audit.record import Json
from stockade.metrics.figures import Stage, quantile
from stockade.metrics.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Sink:
    """One way out of the trail. sent, lost: records; retried: attempts; behind: octets of the trail; failing: the last attempt failed."""

    name: str
    type: str
    sent: int
    retried: int
    lost: int
    behind: int
    failing: bool


@dataclass(frozen=True, slots=True)
class Audit:
    """The trail as its writer sees it. broken: a record could not be written. The counts are those of audit.trail.Counters."""

    broken: bool = False
    missed: int = 0
    checkpoints: int = 0
    rotations: int = 0
    failures: int = 0
    sinks: tuple[Sink, ...] = ()


@dataclass(frozen=True, slots=True)
class Fill:
    """What a sandbox holds of something that has an end."""

    entries: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Renewing:
    """Of the key that signs a sandbox's certificates. due: Unix time. failing: the newest attempt failed."""

    due: float = 0.0
    renewed: int = 0
    failed: int = 0
    failing: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """failures: kernel helpers that failed, by name (kernel/abi.py), and events that were lost. certificates: when they end, Unix time.

    namespace: of the pod that the sandbox is; empty where it is none.
    """

    sandbox: str
    id: str
    pid: int
    policy: str
    generation: int
    mode: str
    backend: str
    ledger: Ledger
    processes: int = 0
    workers: int = 0
    approvals_pending: int = 0
    fill: Mapping[str, Fill] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    certificates: Mapping[str, float] = field(default_factory=dict)
    renewal: Renewing = field(default_factory=Renewing)
    audit: Audit = field(default_factory=Audit)
    namespace: str = ""

    def statistics(self) -> Json:
        """What the control verb answers. Totals since `since`: whoever asks twice has rates."""
        ledger = self.ledger
        by_decision = {"allow": 0, "deny": 0}
        for (_, decision, _, _), count in ledger.decisions.items():
            by_decision[decision] += count
        return {
            "sandbox": self.sandbox,
            "namespace": self.namespace,
            "id": self.id,
            "pid": self.pid,
            "policy": self.policy,
            "generation": self.generation,
            "mode": self.mode,
            "since": ledger.since,
            "processes": self.processes,
            "workers": self.workers,
            "workers_lost": ledger.workers_lost,
            "connections": {kind.value: count for kind, count in ledger.connections.items()},
            "allowed": by_decision["allow"],
            "denied": by_decision["deny"],
            "unenforced": sum(ledger.unenforced.values()),
            "decisions": [[*key, count] for key, count in sorted(ledger.decisions.items())],
            "sent": sum(ledger.sent.values()),
            "received": sum(ledger.received.values()),
            "latency": {stage.value: _latency(ledger, stage) for stage in Stage if stage in ledger.stages},
            "activity": ledger.activity.rows(),
            "refusals": ledger.activity.refusals(),
            "approvals_pending": self.approvals_pending,
            "reload_failed": ledger.reload_failed,
            "authority_failing": self.renewal.failing,
            "audit_broken": self.audit.broken,
            "audit_missed": self.audit.missed,
            "audit_lost": sum(sink.lost for sink in self.audit.sinks),
            "events_lost": sum(count for name, count in self.failures.items() if name in LOST),
        }


LOST = {"event": "ring_full", "malformed": "malformed", "undelivered": "undelivered"}  # of Snapshot.failures: what is on no record


def _latency(ledger: Ledger, stage: Stage) -> Json:
    """counts: not cumulative, below each of figures.BOUNDS and above the last."""
    histogram = ledger.stages[stage]
    return {
        "counts": list(histogram.counts),
        "seconds": histogram.total,
        "p50": quantile(histogram.counts, 0.5),
        "p99": quantile(histogram.counts, 0.99),
    }
