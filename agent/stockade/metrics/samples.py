"""From snapshots to samples: which value each metric of the catalogue has. Knows no exposition format."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade import __version__
from stockade.kernel.abi import FAILURES
from stockade.metrics.figures import Asked, Failure, Histogram, Kind
from stockade.metrics.ledger import Ledger
from stockade.metrics.snapshot import LOST, Snapshot

if TYPE_CHECKING:
    from stockade.metrics.namespaces import Namespaces

HELPERS = tuple(name for name in FAILURES if name not in LOST)


@dataclass(frozen=True, slots=True)
class Sample:
    """labels: values, in the order of the catalogue. about: what the first is the name of, `namespace` in place of `sandbox` for pods."""

    metric: str
    labels: tuple[str, ...]
    value: float | Histogram
    about: str = "sandbox"


def samples(snapshots: Iterable[Snapshot], requests: Mapping[str, int], namespaces: Namespaces | None = None) -> Iterator[Sample]:
    """Of every sandbox there is. requests: to the endpoint, by code. namespaces: where pods are added up; None: there are none."""
    yield Sample("stockade_build_info", (__version__, platform.python_version()), 1)
    for code, count in requests.items():
        yield Sample("stockade_metrics_requests_total", (code,), count)
    found = list(snapshots)
    for snapshot in found:
        if namespaces is None or not snapshot.namespace:
            for name, labels, value in itertools.chain(counted(snapshot.ledger), standing(snapshot)):
                yield Sample(f"stockade_{name}", (snapshot.sandbox, *labels), value)
    if namespaces is not None:
        yield from namespaces.samples(found)


Named = Iterator[tuple[str, tuple[str, ...], float | Histogram]]


def counted(ledger: Ledger) -> Named:
    """What only grows, of one sandbox since it began: it may be added to that of others, and stays when the sandbox is gone."""
    for key, count in ledger.decisions.items():
        yield "decisions_total", key, count
    for action, count in ledger.unenforced.items():
        yield "unenforced_total", (action,), count
    for stage, histogram in ledger.stages.items():
        yield "latency_seconds", (stage.value,), histogram
    for kind in Kind:
        yield "sent_bytes_total", (kind.value,), ledger.sent[kind]
        yield "received_bytes_total", (kind.value,), ledger.received[kind]
    yield "workers_lost_total", (), ledger.workers_lost
    for result, count in ledger.reloads.items():
        yield "policy_reloads_total", (result,), count
    yield "agent_gap_seconds_total", (), ledger.gap
    yield "enforcement_lost_total", (), ledger.enforcement_lost
    yield "audit_records_total", (), ledger.records
    yield "audit_lag_seconds", (), ledger.lag
    if ledger.classifier is not None:
        yield "classifier_requests_total", (), ledger.classified["asked"]
        yield "classifier_answers_total", (), ledger.classified["answered"]
        yield "classifier_cached_total", (), ledger.classified["cached"]
        yield "classifier_characters_total", (), ledger.classified["characters"]
        for why in Failure:
            yield "classifier_failures_total", (why.value,), ledger.failed[why.value]
    if ledger.local is not None or ledger.asked:
        for outcome in Asked:
            yield "local_model_calls_total", (outcome.value,), ledger.asked[outcome]


def standing(snapshot: Snapshot) -> Named:
    """What is so at this moment, and what is no ledger's."""
    ledger = snapshot.ledger
    yield "sandbox_info", (snapshot.policy, snapshot.mode, snapshot.backend), 1
    yield "sandbox_start_time_seconds", (), ledger.since
    for kind in Kind:
        yield "connections", (kind.value,), ledger.connections[kind]
    yield "processes", (), snapshot.processes
    yield "workers", (), snapshot.workers
    for name, fill in snapshot.fill.items():
        yield "map_entries", (name,), fill.entries
        yield "map_capacity", (name,), fill.capacity
    for name in HELPERS:
        yield "helper_failures_total", (name,), snapshot.failures.get(name, 0)
    for name, cause in LOST.items():
        yield "events_lost_total", (cause,), snapshot.failures.get(name, 0)
    yield "policy_generation", (), snapshot.generation
    yield "policy_reload_failed", (), int(ledger.reload_failed)
    yield "policy_reload_time_seconds", (), ledger.reloaded
    yield "approvals_pending", (), snapshot.approvals_pending
    for certificate, expiry in snapshot.certificates.items():
        yield "certificate_expiry_time_seconds", (certificate,), expiry
    yield "authority_renewal_due_time_seconds", (), snapshot.renewal.due
    yield "authority_renewals_total", ("renewed",), snapshot.renewal.renewed
    yield "authority_renewals_total", ("failed",), snapshot.renewal.failed
    yield "authority_renewal_failing", (), int(snapshot.renewal.failing)
    yield from _audit(snapshot)
    yield from _classifier(ledger)
    yield from _local(ledger)


def _audit(snapshot: Snapshot) -> Named:
    audit = snapshot.audit
    yield "audit_broken", (), int(audit.broken)
    yield "audit_missed_total", (), audit.missed
    yield "audit_checkpoints_total", (), audit.checkpoints
    yield "audit_rotations_total", (), audit.rotations
    yield "audit_failures_total", (), audit.failures
    for sink in audit.sinks:
        labels = (sink.name, sink.type)
        yield "audit_sink_sent_total", labels, sink.sent
        yield "audit_sink_lost_total", labels, sink.lost
        yield "audit_sink_retries_total", labels, sink.retried
        yield "audit_sink_behind_bytes", labels, sink.behind
        yield "audit_sink_failing", labels, int(sink.failing)


def _classifier(ledger: Ledger) -> Named:
    now = ledger.classifier
    if now is None:
        return
    yield "classifier_up", (), int(now.up)
    if now.up:
        yield "classifier_info", (now.provider or "none",), 1
    for layer in now.missing:
        yield "classifier_missing", (layer,), 1
    yield "classifier_waiting", (), now.waiting


def _local(ledger: Ledger) -> Named:
    now = ledger.local
    if now is not None:
        if now.up is not None:
            yield "local_model_up", (), int(now.up)
        yield "local_model_waiting", (), now.waiting
        yield "local_model_running", (), now.running
