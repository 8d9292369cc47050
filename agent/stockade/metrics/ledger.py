"""What the agent counts of one sandbox: its records as they are written, and what its worker tells.

Fed on the agent's loop, a microsecond for a record. Keeps totals, never a record.
"""

from __future__ import annotations

import time
from collections import Counter

from stockade.audit.record import Json
from stockade.metrics.activity import Activity
from stockade.metrics.figures import Asked, Classifier, Figures, Histogram, Kind, LocalModel, Stage

Key = tuple[str, str, str, str]  # action, decision, level, reason: closed enums, all four


class Ledger:
    """One sandbox's, from its start or its adoption. lag: from the kernel's event to its written record."""

    def __init__(self) -> None:
        self.since = time.time()
        self.decisions: Counter[Key] = Counter()
        self.unenforced: Counter[str] = Counter()  # by action: what `mode: observe` let pass although the policy denies it
        self.records = 0
        self.stages: dict[Stage, Histogram] = {}
        self.lag = Histogram()
        self.sent: Counter[Kind] = Counter()
        self.received: Counter[Kind] = Counter()
        self.connections: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self.classifier: Classifier | None = None
        self.classified: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.local: LocalModel | None = None
        self.asked: Counter[Asked] = Counter()
        self.reloads: Counter[str] = Counter({"switched": 0, "refused": 0})
        self.reloaded = self.since
        self.reload_failed = False
        self.workers_lost = 0
        self.gap = 0  # seconds without an agent
        self.enforcement_lost = 0
        self.activity = Activity()

    def record(self, record: Json) -> None:
        """A record that is in the trail."""
        detail, reason = record["detail"], record["reason"]
        times = detail.get("times", 1)
        times = times if type(times) is int and times > 0 else 1
        self.records += 1
        self.decisions[record["action"], record["decision"], record["level"], reason] += times
        if record["decision"] == "deny" and not record["enforced"]:
            self.unenforced[record["action"]] += times
        if http := record["http"]:
            self.sent[Kind.INSPECTED] += http["request_bytes"] or 0
            self.received[Kind.INSPECTED] += http["response_bytes"] or 0
        if record["action"] == "inbound":
            self.sent[Kind.INBOUND] += _octets(detail, "bytes_sent")
            self.received[Kind.INBOUND] += _octets(detail, "bytes_received")
        if record["action"] in ("lifecycle", "policy"):
            self._own(reason, detail)
        self.activity.record(record, times)

    def _own(self, reason: str, detail: Json) -> None:
        """What happened to the agent's own parts."""
        match reason:
            case "reloaded":
                self.reloads["switched"] += 1
                self.reloaded, self.reload_failed = time.time(), False
            case "reload_refused":
                self.reloads["refused"] += 1
                self.reload_failed = True
            case "worker_lost":
                self.workers_lost += 1
            case "adopted":
                self.gap += _octets(detail, "gap_seconds")
            case "enforcement_lost":
                self.enforcement_lost += 1

    def figures(self, found: Figures) -> None:
        """What the worker that serves it now has measured."""
        for stage, histogram in found.stages.items():
            self.stage(stage).add(histogram)
        self.sent.update(found.sent)
        self.received.update(found.received)
        self.connections |= found.connections
        if found.classifier is not None:
            self._classifier(found.classifier)
        self.asked.update(found.asked)
        self.local = found.local

    def _classifier(self, now: Classifier) -> None:
        """Each worker counts from 0: what it says less than before is a new one's."""
        before = self.classifier or Classifier()
        for name in ("asked", "answered", "cached", "characters"):
            self.classified[name] += _grown(getattr(before, name), getattr(now, name))
        for why, count in now.failed.items():
            self.failed[why.value] += _grown(before.failed.get(why, 0), count)
        self.classifier = now

    def worker_gone(self) -> None:
        """Its connections went with it, and its classifier."""
        self.connections = dict.fromkeys(Kind, 0)
        if self.classifier is not None:
            self.classifier = Classifier()
        if self.local is not None:
            self.local = LocalModel()

    def stage(self, stage: Stage) -> Histogram:
        return self.stages.setdefault(stage, Histogram())

    def happened(self, stage: Stage | None, monotonic_ns: int) -> None:
        """An event of the kernel's, which has the time of CLOCK_MONOTONIC, is on record now."""
        seconds = max(0, time.monotonic_ns() - monotonic_ns) / 1e9
        self.lag.observe(seconds)
        if stage is not None:
            self.stage(stage).observe(seconds)


def _octets(detail: Json, name: str) -> int:
    value = detail.get(name)
    return value if type(value) is int and value > 0 else 0


def _grown(before: int, now: int) -> int:
    return now - before if now >= before else now
