"""What the worker measures of one sandbox, added up here and told to the agent once a second when there is news; and the JSON of that.

A request costs it a few additions. Nothing waits for it, nobody answers it, and what is not told when the worker dies is lost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from stockade.metrics.figures import BOUNDS, Asked, Classifier, Failure, Figures, Histogram, Kind, LocalModel, Stage
from stockade.proxy import codec

EVERY = 1.0  # seconds between two messages, while there is something to tell


class Passing(Protocol):
    """What carries octets, and says how many so far."""

    @property
    def sent(self) -> int: ...

    @property
    def received(self) -> int: ...


class Meter:
    """Of one sandbox. stirred: called once when there is news, until it is taken."""

    def __init__(self) -> None:
        self.stirred: Callable[[], None] = lambda: None
        self._stages: dict[Stage, Histogram] = {}
        self._sent: Counter[Kind] = Counter()
        self._received: Counter[Kind] = Counter()
        self._relays: dict[Passing, tuple[int, int]] = {}  # what is told of each
        self._asked: Counter[Asked] = Counter()
        self._news = False

    def stir(self) -> None:
        if not self._news:
            self._news = True
            self.stirred()

    def observe(self, stage: Stage, seconds: float) -> None:
        histogram = self._stages.get(stage)
        if histogram is None:
            histogram = self._stages[stage] = Histogram()
        histogram.observe(seconds)
        self.stir()

    def since(self, stage: Stage, began: float) -> None:
        """began: of time.perf_counter()."""
        self.observe(stage, time.perf_counter() - began)

    def asked(self, outcome: Asked | None) -> None:
        """A call for the local model, or that there is something new to be seen of it."""
        if outcome is not None:
            self._asked[outcome] += 1
        self.stir()

    def relay(self, relay: Passing) -> None:
        """Count what passes through it from now on."""
        self._relays[relay] = (0, 0)

    def over(self, relay: Passing) -> None:
        self._count(relay)
        self._relays.pop(relay, None)
        self.stir()

    def _count(self, relay: Passing) -> None:
        sent, received = self._relays.get(relay, (relay.sent, relay.received))
        self._sent[Kind.RELAYED] += relay.sent - sent
        self._received[Kind.RELAYED] += relay.received - received
        self._relays[relay] = (relay.sent, relay.received)

    def take(self, connections: Iterable[Kind], classifier: Classifier | None, local: LocalModel | None = None) -> Figures:
        """What is new. While a relay is open there may be more in a second."""
        for relay in self._relays:
            self._count(relay)
        kinds = dict.fromkeys(Kind, 0) | Counter(connections)
        found = Figures(self._stages, dict(self._sent), dict(self._received), kinds, classifier, dict(self._asked), local)
        self._stages, self._sent, self._received, self._asked, self._news = {}, Counter(), Counter(), Counter(), False
        if self._relays:
            self.stir()
        return found


def encode(figures: Figures) -> codec.Json:
    """What a worker tells of its figures; times in nanoseconds."""
    classifier = figures.classifier
    return {
        "stages": {stage.value: [histogram.counts, round(histogram.total * 1e9)] for stage, histogram in figures.stages.items()},
        "sent": {kind.value: count for kind, count in figures.sent.items()},
        "received": {kind.value: count for kind, count in figures.received.items()},
        "connections": {kind.value: count for kind, count in figures.connections.items()},
        "classifier": None if classifier is None else _encode_classifier(classifier),
        "asked": {asked.value: count for asked, count in figures.asked.items()},
        "local": None if figures.local is None else {name: getattr(figures.local, name) for name in ("up", "waiting", "running")},
    }


def decode(message: Mapping[str, Any]) -> Figures:
    """Raises ValueError for what `encode` would not have written: every name is of a closed list."""
    return Figures(
        stages={Stage(name): _histogram(value) for name, value in codec.mapping(message, "stages").items()},
        sent=_kinds(message, "sent"),
        received=_kinds(message, "received"),
        connections=_kinds(message, "connections"),
        classifier=None if message.get("classifier") is None else _decode_classifier(codec.mapping(message, "classifier")),
        asked={Asked(name): codec.number(found, name, maximum=2**53) for found in [codec.mapping(message, "asked")] for name in found},
        local=None if message.get("local") is None else _decode_local(codec.mapping(message, "local")),
    )


def _histogram(value: Any) -> Histogram:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], list) or len(value[0]) != len(BOUNDS) + 1:
        raise ValueError("stages: counts and nanoseconds are wanted")
    counts = [codec.number({"count": count}, "count", maximum=2**40) for count in value[0]]
    return Histogram(counts, codec.number({"total": value[1]}, "total", maximum=2**63) / 1e9)


def _decode_local(message: codec.Json) -> LocalModel:
    up = None if message.get("up") is None else codec.flag(message, "up")
    return LocalModel(up, *(codec.number(message, name, maximum=2**31) for name in ("waiting", "running")))


def _kinds(message: Mapping[str, Any], key: str) -> dict[Kind, int]:
    found = codec.mapping(message, key)
    return {Kind(name): codec.number(found, name, maximum=2**53) for name in found}


_COUNTS = ("asked", "answered", "cached", "characters", "waiting")


def _encode_classifier(classifier: Classifier) -> codec.Json:
    counts = {name: getattr(classifier, name) for name in _COUNTS}
    failed = {why.value: count for why, count in classifier.failed.items()}
    return counts | {"up": classifier.up, "provider": classifier.provider, "missing": list(classifier.missing), "failed": failed}


def _decode_classifier(message: codec.Json) -> Classifier:
    failed = codec.mapping(message, "failed")
    counts = {name: codec.number(message, name, maximum=2**53) for name in _COUNTS}
    provider, missing = codec.optional_text(message, "provider"), codec.texts(message, "missing")
    if len(missing) > 8 or any(len(word) > 64 for word in (*missing, provider or "")):
        raise ValueError("classifier: few and short names are wanted")
    return Classifier(
        **counts,
        up=codec.flag(message, "up"),
        provider=provider,
        missing=missing,
        failed={Failure(why): codec.number(failed, why, maximum=2**53) for why in failed},
    )
