"""A sandbox that did something, for the tests of what is shown of it."""

from __future__ import annotations

from typing import Any

from stockade.audit.record import describe
from stockade.metrics.figures import Asked, Classifier, Failure, Figures, Histogram, Kind, LocalModel, Stage
from stockade.metrics.ledger import Ledger
from stockade.metrics.snapshot import Audit, Fill, Sink, Snapshot
from stockade.types import Action, Binary, Destination, Effect, Http, Level, Outcome, Reason, Record, Sandbox

BOX = Sandbox("0123456789ab", "box", "demo", 3)
CURL = Binary.named("curl", "/usr/bin/curl")


def written(record: Record, seq: int = 1) -> dict[str, Any]:
    """The record as a subscriber of the trail gets it."""
    return describe(BOX, record) | {"seq": seq, "time": f"2026-11-22T09:00:00.{seq:06d}Z", "prev": "", "hash": ""}


def http(host: str = "api.example.com", path: str = "/", *, outcome: Outcome = Outcome.ALLOW, binary: Binary = CURL) -> Record:
    allowed = outcome is Outcome.ALLOW
    return Record(
        Action.HTTP,
        outcome,
        Effect.PASS if allowed else Effect.REFUSE,
        Level.PATH,
        Reason.RULE_ALLOW if allowed else Reason.NO_RULE,
        binary=binary,
        exec_id=1,
        pid=42,
        destination=Destination(host, 443),
        http=Http("GET", path, 200, 10, 1000),
    )


def lifecycle(reason: Reason, **detail: Any) -> Record:
    return Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, reason, detail=detail)


def busy() -> Ledger:
    """A ledger with something in every place."""
    ledger = Ledger()
    ledger.record(written(http(), 1))
    ledger.record(written(http(outcome=Outcome.DENY), 2))
    for seq, reason in enumerate((Reason.RELOADED, Reason.RELOAD_REFUSED, Reason.WORKER_LOST, Reason.ENFORCEMENT_LOST), 3):
        ledger.record(written(lifecycle(reason), seq))
    ledger.record(written(lifecycle(Reason.ADOPTED, gap_seconds=7), 8))
    observed = Record(Action.EXEC, Outcome.DENY, Effect.PASS, Level.EXEC, Reason.EXEC_UNLISTED, enforced=False, binary=CURL)
    ledger.record(written(observed, 9))
    ledger.happened(Stage.EXEC, 0)
    histogram = Histogram()
    histogram.observe(0.002)
    classifier = Classifier(5, 4, 2, 900, 1, True, "CPUExecutionProvider", ("documents",), {Failure.TIMEOUT: 1})
    stages = dict.fromkeys(Stage, histogram)
    asked, local = {Asked.ANSWERED: 3, Asked.QUEUE: 1}, LocalModel(True, 2, 1)
    ledger.figures(Figures(stages, {Kind.RELAYED: 100}, {Kind.RELAYED: 200}, {Kind.INSPECTED: 2}, classifier, asked, local))
    return ledger


def snapshot(ledger: Ledger, name: str = "box", policy: str = "demo") -> Snapshot:
    return Snapshot(
        sandbox=name,
        id="0123456789ab",
        pid=1,
        policy=policy,
        generation=3,
        mode="enforce",
        backend="lsm",
        ledger=ledger,
        processes=2,
        workers=1,
        approvals_pending=1,
        fill={"tasks": Fill(2, 8192)},
        failures={"event": 4, "quota": 1},
        certificates={"authority": 1_900_000_000.0},
        audit=Audit(False, 1, 3, 2, 1, (Sink("siem", "http", 10, 2, 3, 4096, True),)),
    )
