"""A request that is read before it is passed on: what was found out about it, as the engine carries it out and the record tells it.

Owns the bounds on bodies that are held meanwhile. Knows nothing of mitmproxy.
"""

from __future__ import annotations

import socket
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote, unquote_plus

from stockade.privacy.finding import Finding
from stockade.privacy.local import LocalFailure
from stockade.proxy.ladder import Admitted, Head
from stockade.types import Action, Effect, Reason

type Detail = dict[str, str | int | list[str]]

Header = tuple[str, str]


class Reader(Protocol):
    """Reads an answer while it passes. What it gives back is what the client gets."""

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...

    def said(self) -> Detail:
        """For the record, once the answer is over."""


class Answering(Protocol):
    """Who answers a request in the place of the server that it was sent to: the local model."""

    @property
    def size(self) -> int:
        """Octets of what is asked there."""

    @property
    def failure(self) -> LocalFailure | None: ...

    async def begin(self) -> None:
        """Until the answer begins. Raises LocalFailure: then nothing has gone to the client."""

    def take(self) -> socket.socket | None:
        """The connection that the answer comes on. Once."""

    def close(self) -> None: ...

    def said(self) -> Detail:
        """For the record, once it is over."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request. body, headers: instead of its own, None to leave them. refusal: the answer of ours to an effect REFUSE.

    allowed: the policy's own answer; a denial that is not enforced has another effect than REFUSE. answer: a Reader for the head of the
    answer. target: path and query instead of its own. unsaid: what was found in the target, of which no record tells. ask: who answers
    instead of the server; otherwise: what becomes of the request when that failed before it began.
    """

    effect: Effect
    reason: Reason
    action: Action
    allowed: bool = True
    rule: str | None = None
    error: str = ""
    hint: str = ""
    detail: Detail = field(default_factory=dict)
    body: bytes | None = None
    headers: tuple[Header, ...] | None = None
    ask: Answering | None = None
    otherwise: Callable[[LocalFailure], Verdict] | None = None
    refusal: bytes | None = None
    status: HTTPStatus = HTTPStatus.FORBIDDEN
    answer: Any = None  # Callable[[int, Sequence[Header]], Reader]
    target: str | None = None
    unsaid: tuple[str, ...] = ()

    def told(self, path: str) -> str:
        """A path as a record may have it."""
        segments = path.split("/")
        kept = [
            each if not any(value in unquote(each) or value in unquote_plus(each) for value in self.unsaid) else "*" for each in segments
        ]
        whole = (unquote(path), unquote_plus(path))
        return "/".join(kept) if kept != segments or not any(value in each for value in self.unsaid for each in whole) else "/*"


class Budget:
    """Octets of all bodies that one worker holds to read them. A body that is forgotten gives its share back."""

    def __init__(self, each: int, total: int) -> None:
        self._each, self._total = each, total
        self._held: weakref.WeakSet[Holding] = weakref.WeakSet()

    def hold(self) -> Holding:
        holding = Holding(self)
        self._held.add(holding)
        return holding

    def allows(self, size: int, holding: Holding) -> bool:
        return size <= self._each and size + sum(other.size for other in self._held if other is not holding) <= self._total


class Holding:
    """The body of one request, while it comes in."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.size = budget, 0

    def grow(self, size: int) -> bool:
        """Whether there may be so much of it."""
        if not self._budget.allows(size, self):
            return False
        self.size = size
        return True

    def release(self) -> None:
        self.size = 0


@dataclass(slots=True)
class Screening:
    """One request whose body is awaited. policy: the one its head was judged by."""

    head: Head
    admitted: Admitted
    policy: Any
    holding: Holding


def covered(category: str, names: Sequence[str]) -> bool:
    """Whether one of the names, exact or `family.*`, means this category."""
    return any(name == category or (name.endswith(".*") and category.startswith(name[:-1])) for name in names)


def counted(findings: Sequence[Sequence[Finding]]) -> list[str]:
    """`category=count`, in order of the names: what a record tells, and never the text."""
    counts: dict[str, int] = {}
    for each in findings:
        for finding in each:
            counts[finding.category] = counts.get(finding.category, 0) + 1
    return [f"{category}={count}" for category, count in sorted(counts.items())]


def versions(detectors: Mapping[str, str]) -> list[str]:
    return [f"{name}={version}" for name, version in sorted(detectors.items())]
