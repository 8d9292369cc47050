"""What a proxy worker measures and tells the agent once a second: times by stage, octets of relays, open connections, its classifier.

The worker adds up, so that a request costs it a few additions and no message. The names and bounds here are closed: a worker that reads
what a sandbox wrote cannot make a series of its own.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

# Seconds, upper ends. A decision takes tens of microseconds, a model may think for a minute.
BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Stage(StrEnum):
    """What is timed. `exec` is the agent's own; the others are of the worker."""

    EXEC = "exec"  # from the kernel's hook to the written record
    CONNECT = "connect"  # from accept to the decision on the connection
    CLIENT_TLS = "client_tls"
    DECIDE = "decide"  # from a request's head to its decision, written down
    CLASSIFICATION = "classification"  # a body that was read before it was decided
    UPSTREAM_CONNECT = "upstream_connect"  # name, address check, TCP
    UPSTREAM_TLS = "upstream_tls"
    FIRST_BYTE = "first_byte"  # from the release of a request to the head of its answer


class Kind(StrEnum):
    """What becomes of a connection."""

    INSPECTED = "inspected"
    RELAYED = "relayed"
    INBOUND = "inbound"


class Failure(StrEnum):
    """Why the classifier gave no findings. What is none of these is OTHER."""

    NO_CLASSIFIER = "no_classifier"
    TIMEOUT = "timeout"
    OVERLOAD = "overload"
    DEADLINE = "deadline"
    LOST = "lost"
    NONSENSE = "nonsense"
    UNKNOWN_SETTINGS = "unknown_settings"
    TOO_MANY_FINDINGS = "too_many_findings"
    OTHER = "other"

    @classmethod
    def of(cls, why: str) -> Failure:
        try:
            return cls(why)
        except ValueError:
            return cls.OTHER


class Asked(StrEnum):
    """What came of a call that was to be answered by the local model."""

    ANSWERED = "answered"
    QUEUE = "queue"  # no place for it, at once or in time
    SILENT = "silent"  # not there, or it said nothing in time
    CONTEXT = "context"  # longer than the model takes
    REFUSED = "refused"  # an error, or no answer of the API that it is said to speak
    BROKE_OFF = "broke_off"  # in the middle of the answer
    LEFT = "left"  # who asked did not wait for it


class Histogram:
    """Counts below each of BOUNDS and above the last, not cumulative; total in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self, counts: Sequence[int] | None = None, total: float = 0.0) -> None:
        self.counts = list(counts) if counts is not None else [0] * (len(BOUNDS) + 1)
        self.total = total

    def observe(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def add(self, other: Histogram) -> None:
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper end, how many were at most that), as Prometheus wants its buckets."""
        ends = [*map(repr, BOUNDS), "+Inf"]
        return list(zip(ends, itertools.accumulate(self.counts), strict=True))


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Seconds below which that share of what was counted lies, interpolated as Prometheus does; None of nothing."""
    total = sum(counts)
    if not total:
        return None
    wanted, below = share * total, 0
    for place, count in enumerate(counts):
        if count and below + count >= wanted:
            if place == len(BOUNDS):
                return BOUNDS[-1]
            low = BOUNDS[place - 1] if place else 0.0
            return low + (BOUNDS[place] - low) * max(0.0, wanted - below) / count
        below += count
    return BOUNDS[-1]


@dataclass(frozen=True, slots=True)
class Classifier:
    """What a worker knows of its classifier, since the worker started. waiting: questions without an answer yet.

    provider: what the model runs on, None without one. missing: layers that could not be loaded.
    """

    asked: int = 0
    answered: int = 0
    cached: int = 0
    characters: int = 0
    waiting: int = 0
    up: bool = False
    provider: str | None = None
    missing: tuple[str, ...] = ()
    failed: Mapping[Failure, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """The server that the policy in force names, as the worker knows it: of all sandboxes that are led there. up: whether it answered when
    it was asked or looked at last; None before.
    """

    up: bool | None = None
    waiting: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """One message of a worker. stages, sent, received, asked: since the last one. connections, classifier, local: as they are.

    asked: calls for the local model.
    """

    stages: Mapping[Stage, Histogram] = field(default_factory=dict)
    sent: Mapping[Kind, int] = field(default_factory=dict)
    received: Mapping[Kind, int] = field(default_factory=dict)
    connections: Mapping[Kind, int] = field(default_factory=dict)
    classifier: Classifier | None = None
    asked: Mapping[Asked, int] = field(default_factory=dict)
    local: LocalModel | None = None
