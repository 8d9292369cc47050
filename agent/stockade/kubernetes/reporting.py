"""Writing the status of policies: one task, at a measured pace, one compare-and-swap at a time.

Many nodes write to one object, and all of them are told of each write. So each waits the longer the more there are, and in a large cluster
what only counts is not written for its own sake. Nothing is lost by waiting: what is written is what holds when it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stockade.kubernetes.api import CLUSTER_POLICIES, NODES, OPERATIONS, POLICIES, Api, Away, Denied, Expired, at
from stockade.kubernetes.resources import Json, Key, Resource, policy
from stockade.kubernetes.status import MOST, Entry, Said, merged, of_mappings
from stockade.kubernetes.watching import RESYNC

_log = logging.getLogger(__name__)

SOON, COUNTS = 1.0, 30.0  # seconds between two writes of one policy: what somebody waits for, and counts alone
_PACE = 10.0  # writes of one policy in a second, by all nodes together: of more than that most collide
_SMALL = 20  # nodes of a cluster in which counts alone are worth a write
_IDLE = 15.0  # of a node without pods: whether a policy loads at all is said by whoever comes first
_TRIES = 4
_STALE = 3600.0  # seconds after which an entry's node is asked for

Change = Callable[[Resource], Said | None]  # what to write for an object as it is; None: nothing


@dataclass(slots=True)
class _Due:
    entry: Entry
    at: float
    written: float = 0.0
    failures: int = 0
    said: tuple[int, Entry] | None = None  # the generation it was about, and what was written of it last


@dataclass(slots=True)
class Reporter:
    """latest: the object as it was heard last, so that most writes need no reading."""

    api: Api
    latest: Callable[[Key], Resource | None]
    size: int = 1  # nodes of the cluster
    _due: dict[Key, _Due] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: dict[str, float] = field(default_factory=dict)

    def say(self, key: Key, entry: Entry) -> None:
        """This is what holds on this node."""
        resource = self.latest(key)
        if resource is None:
            self._due.pop(key, None)
            return
        found = merged(resource, entry, now())
        due = self._due.get(key)
        if found is None:
            if due is not None:
                due.entry, due.at = entry, float("inf")
            return
        if due is not None and due.said == (resource.generation, entry) and _there(resource, entry):
            return  # the definitions there are older than this agent, and do not know all of it
        spread = self.spread(known=_named(resource, entry))
        soon = random.uniform(0, SOON / 2 + spread)
        if not entry.worth:
            soon += random.uniform(0, _IDLE + spread)
        last = due.written if due else 0.0
        if not found.urgent and self.size > _SMALL:
            when = float("inf")
        else:
            when = max(time.monotonic() + soon, last + (SOON + spread if found.urgent else COUNTS))
        if due is None:
            self._due[key] = _Due(entry, when)
        else:
            due.entry, due.at = entry, min(due.at, when) if due.at > time.monotonic() else when
        self._woken.set()

    def spread(self, *, known: bool) -> float:
        """Seconds over which nodes that have the same to do do it. known: those alone that have an entry in the status."""
        return min(self.size, MOST if known else self.size) / _PACE

    async def run(self) -> None:
        """For good: writes each status when it is due, and asks once in RESYNC seconds how many nodes there are."""
        measured = -RESYNC
        while True:
            self._woken.clear()
            if time.monotonic() - measured > RESYNC:
                measured = time.monotonic()
                with contextlib.suppress(Away, Denied, Expired):
                    self.size = await asyncio.to_thread(self._size)
            first = min((due.at for due in self._due.values()), default=float("inf"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), None if first == float("inf") else max(0.0, first - time.monotonic()))
            for key in [key for key, due in self._due.items() if due.at <= time.monotonic()]:
                await self._write(key, self._due[key])

    def _size(self) -> int:
        """How many nodes there are, without asking for them. Blocks."""
        page = self.api.ask("GET", NODES, query=[("limit", "1")])
        return max(1, len(page.get("items") or ()) + int((page.get("metadata") or {}).get("remainingItemCount") or 0))

    async def _write(self, key: Key, due: _Due) -> None:
        entry, due.at, due.written = due.entry, float("inf"), time.monotonic()
        try:
            gone = await asyncio.to_thread(self._gone, self.latest(key))
            await asyncio.to_thread(self.swap, key, lambda resource: merged(resource, entry, now(), gone))
            due.failures = 0
            if (resource := self.latest(key)) is not None:
                due.said = resource.generation, entry
        except (Away, Denied, Expired) as error:
            due.failures += 1
            crowded = isinstance(error, Denied) and error.status == 409
            longest = 1 + self.spread(known=True) if crowded else 5.0 * min(due.failures, 12)
            due.at = min(due.at, time.monotonic() + random.uniform(longest / 5, longest))
            _log.log(logging.INFO if crowded else logging.WARNING, "status of %s %s is not written: %s", key.kind, key, error)

    def swap(self, key: Key, change: Change) -> bool:
        """Write what `change` makes of the object, of the newest of it. False: it is gone. Blocks. Raises Away, Denied, Expired."""
        path = at(CLUSTER_POLICIES if key.cluster else POLICIES, key.namespace, key.name)
        resource = self.latest(key)
        if resource is not None and change(resource) is not None and self.size > _SMALL:
            resource = self._newest(path)  # where many write, what was heard last is not what is there
        for attempt in range(_TRIES):
            if resource is None:
                return False
            if (said := change(resource)) is None:
                return True
            version: Json = {"op": "replace", "path": "/metadata/resourceVersion", "value": resource.version}  # of another one: 409
            try:
                whole = [version, {"op": "add", "path": "/status", "value": said.status}]
                self.api.ask("PATCH", f"{path}/status", body=whole, kind=OPERATIONS)
                return True
            except Denied as error:
                if error.status == 404:
                    return False
                if error.status != 409 or attempt == _TRIES - 1:
                    raise
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
            resource = self._newest(path)
        return False

    def _newest(self, path: str) -> Resource | None:
        """None: it is gone. Blocks."""
        try:
            return policy(self.api.ask("GET", path))
        except Denied as error:
            if error.status == 404:
                return None
            raise

    def _gone(self, resource: Resource | None) -> list[str]:
        """Of the entries that nobody has written for long, one whose node is no more. Blocks."""
        for each in of_mappings(resource.status, "nodes") if resource else ():
            name, updated = str(each.get("name")), _seconds(str(each.get("updated", "")))
            if time.time() - updated > _STALE and time.monotonic() - self._asked.get(name, -_STALE) >= _STALE:
                self._asked[name] = time.monotonic()
                try:
                    self.api.ask("GET", at(NODES, "", name))
                except Denied as error:
                    return [name] if error.status == 404 else []
                return []
        return []


def _named(resource: Resource, entry: Entry) -> bool:
    return any(each.get("name") == entry.name for each in of_mappings(resource.status, "nodes"))


def _there(resource: Resource, entry: Entry) -> bool:
    return _named(resource, entry) == entry.worth


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
