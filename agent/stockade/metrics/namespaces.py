"""Pods, added up by namespace: they are many and short-lived, and a series for each would be more than a Prometheus wants.

Owns what pods that have ended counted: a total of a namespace goes on from where it was, and a pod that lived between two looks is in it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from stockade.metrics.figures import Histogram
from stockade.metrics.ledger import Ledger
from stockade.metrics.samples import Sample, counted, standing
from stockade.metrics.snapshot import Fill, Snapshot

MOST = 256  # namespaces that are kept: those with pods, and of the others those that had one last

type _Key = tuple[str, tuple[str, ...]]  # name, labels
type _Sum = dict[_Key, float | Histogram]

# What of several pods is none of their sum. What the whole agent has once is the same at each of them.
_TOGETHER: dict[str, Callable[[float, float], float]] = {
    **dict.fromkeys(
        ("sandbox_start_time_seconds", "workers", "classifier_up", "local_model_up", "certificate_expiry_time_seconds"),
        min,
    ),
    "authority_renewal_due_time_seconds": min,
    **dict.fromkeys(
        ("sandbox_info", "classifier_info", "classifier_missing", "policy_reload_failed", "policy_reload_time_seconds", "audit_broken"),
        max,
    ),
    **dict.fromkeys(("authority_renewal_failing", "local_model_waiting", "local_model_running"), max),
    **dict.fromkeys(("helper_failures_total", "events_lost_total", "audit_missed_total", "audit_checkpoints_total"), max),
    **dict.fromkeys(("audit_rotations_total", "audit_failures_total", "audit_sink_sent_total", "audit_sink_lost_total"), max),
    **dict.fromkeys(("audit_sink_retries_total", "audit_sink_behind_bytes", "audit_sink_failing"), max),
}
# Each of these is one sandbox's alone, and goes with it.
LEFT_OUT = ("policy_generation", "authority_renewals_total")


@dataclass(slots=True)
class _Namespace:
    """living: of pods that are governed now. past: what those that have ended counted."""

    living: list[Ledger] = field(default_factory=list)
    past: _Sum = field(default_factory=dict)


class Namespaces:
    """Of one agent."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[str, _Namespace] = OrderedDict()
        self._of: dict[int, str] = {}  # by the ledger's identity

    def begun(self, namespace: str, ledger: Ledger) -> None:
        """A pod of it is governed, and counted there from now on."""
        self._known.setdefault(namespace, _Namespace()).living.append(ledger)
        self._known.move_to_end(namespace)
        self._of[id(ledger)] = namespace
        while len(self._known) > self._most and (empty := next((name for name, each in self._known.items() if not each.living), None)):
            del self._known[empty]

    def ended(self, ledger: Ledger) -> None:
        """Nothing more is counted there. A sandbox that is no pod is passed over."""
        if (name := self._of.pop(id(ledger), None)) is None:
            return
        namespace = self._known[name]
        namespace.living = [each for each in namespace.living if each is not ledger]
        _add(namespace.past, ledger)
        self._known.move_to_end(name)

    def samples(self, snapshots: Iterable[Snapshot]) -> Iterator[Sample]:
        """snapshots: of every sandbox that is there; those that are no pods are passed over."""
        there: dict[str, list[Snapshot]] = {}
        for snapshot in snapshots:
            if snapshot.namespace:
                there.setdefault(snapshot.namespace, []).append(snapshot)
        for name, namespace in self._known.items():
            found = {key: _copy(value) for key, value in namespace.past.items()}
            for ledger in namespace.living:
                _add(found, ledger)
            found |= _now(there.get(name, ()))
            found["pods", ()] = len(namespace.living)
            for (metric, labels), value in found.items():
                yield Sample(f"stockade_{metric}", (name, *labels), value, "namespace")


def _add(total: _Sum, ledger: Ledger) -> None:
    for name, labels, value in counted(ledger):
        before = total.get((name, labels))
        if isinstance(value, Histogram):
            if not isinstance(before, Histogram):
                before = total[name, labels] = Histogram()
            before.add(value)
        else:
            assert not isinstance(before, Histogram)
            total[name, labels] = value + (before or 0)


def _copy(value: float | Histogram) -> float | Histogram:
    return Histogram(value.counts, value.total) if isinstance(value, Histogram) else value


def _now(snapshots: Iterable[Snapshot]) -> _Sum:
    """What is true of a namespace's pods at this moment."""
    found: dict[_Key, float] = {}
    fullest: dict[str, Fill] = {}
    for snapshot in snapshots:
        for name, fill in snapshot.fill.items():  # of all pods together, one that is full would not be seen
            if name not in fullest or _share(fill) > _share(fullest[name]):
                fullest[name] = fill
        for name, labels, value in standing(snapshot):
            if name in LEFT_OUT:
                continue
            assert not isinstance(value, Histogram)
            before = found.get((name, labels))
            together = _TOGETHER.get(name)
            found[name, labels] = value if before is None else together(before, value) if together is not None else before + value
    for name, fill in fullest.items():
        found["map_entries", (name,)], found["map_capacity", (name,)] = fill.entries, fill.capacity
    return {**found}


def _share(fill: Fill) -> float:
    return fill.entries / fill.capacity if fill.capacity else 0.0
