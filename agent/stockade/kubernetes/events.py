"""Events on pods: what its author should see with `kubectl describe pod`. Few, each once, and never in anybody's way.

An event's name is made of what it says, so that an agent that starts again does not say it again: the API knows it already.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from stockade.kubernetes.api import Api, Away, Denied, Expired, Json, at
from stockade.kubernetes.resources import Seen

_log = logging.getLogger(__name__)

BURST, EACH = 10, 60.0  # of one pod: so many at once, and then one in so many seconds
_WAITING, _REMEMBERED = 256, 8192
EVENTS = "/api/v1/events"

Type = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class _Event:
    pod: Seen
    type: Type
    reason: str
    message: str
    name: str


@dataclass(slots=True)
class _Allowance:
    left: float = BURST
    since: float = field(default_factory=time.monotonic)

    def take(self) -> bool:
        now = time.monotonic()
        self.left, self.since = min(BURST, self.left + (now - self.since) / EACH), now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class Announcer:
    """Events on pods, each kind once while it is remembered and no more than the pod's allowance. written: so many were taken."""

    api: Api
    node: str
    written: int = 0
    _queue: asyncio.Queue[_Event] = field(default_factory=lambda: asyncio.Queue(_WAITING))
    _told: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _allowances: dict[str, _Allowance] = field(default_factory=dict)

    def refused(self, pod: Seen, record: Json) -> None:
        """The first refusal of a kind: by binary, destination and reason. record: as it stands in the trail."""
        who = (record["binary"] or {}).get("name", "?")
        to, http = record["destination"], record["http"]
        where = "" if to is None else f" to {to['host']}" + (f":{to['port']}" if to["port"] else "")
        what = f" {http['method']} {http['path']}" if http else ""
        reason = "Refused" if record["enforced"] else "WouldBeRefused"
        rule = f", rule {record['rule']}" if record["rule"] else ""
        said = f"{record['action']}{what} of {who}{where}: {record['reason']}{rule}"
        self._say(pod, "Warning", reason, said, f"{who}{where}{record['reason']}")

    def say(self, pod: Seen, reason: str, message: str) -> None:
        """Something else that its author should know, once."""
        self._say(pod, "Warning", reason, message, message)

    def forget(self, uid: str) -> None:
        self._allowances.pop(uid, None)

    def _say(self, pod: Seen, kind: Type, reason: str, message: str, unlike: str) -> None:
        name = hashlib.sha256(f"{pod.uid}\n{reason}\n{unlike}".encode("utf-8", "replace")).hexdigest()[:20]
        if name in self._told:
            return
        if self._queue.full() or not self._allowances.setdefault(pod.pod.uid, _Allowance()).take():
            return  # it is in the trail, and in the counts
        self._told[name] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        self._queue.put_nowait(_Event(pod, kind, reason, message, name))

    async def run(self) -> None:
        """For good. An event that could not be written is not tried again: the next of its kind says it."""
        while True:
            event = await self._queue.get()
            try:
                await asyncio.to_thread(self.api.ask, "POST", at(EVENTS, event.pod.pod.namespace), body=self._body(event))
                self.written += 1
            except Denied as error:
                if error.status not in (404, 409):  # the pod's namespace is gone; it was said before
                    _log.warning("an event on pod %s/%s is not taken: %s", event.pod.pod.namespace, event.pod.pod.name, error)
            except (Away, Expired) as error:
                self._told.pop(event.name, None)  # the next of its kind says it
                _log.warning("an event on pod %s/%s is not written: %s", event.pod.pod.namespace, event.pod.pod.name, error)

    def _body(self, event: _Event) -> Json:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        pod = event.pod.pod
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{pod.name[:200]}.{event.name}", "namespace": pod.namespace},
            # A static pod is known by its hash here too: so `kubectl describe` asks for the events of what mirrors it.
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            "type": event.type,
            "reason": event.reason,
            "message": event.message.encode("utf-8", "replace").decode()[:1000],
            "source": {"component": "stockade", "host": self.node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
