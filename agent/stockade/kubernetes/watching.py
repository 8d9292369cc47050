"""Following one kind of object: a list, then every change of it, for as long as there is an API to ask.

A thread for each kind, since the client blocks; what it learns is told on the loop, in order. What it cannot learn changes nothing: whoever
is told goes on with what was known.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stockade.kubernetes.api import Api, Away, Denied, Expired, Followed
from stockade.kubernetes.resources import Json

_log = logging.getLogger(__name__)

RESYNC = 1800.0  # seconds after which everything is listed again, whatever the watch said
_LASTS = 300.0  # of one watch, which is then begun again where it ended
_FIRST, _LONGEST = 0.5, 30.0  # seconds of waiting after a failure
_PATIENT = 6  # failures in a row, about a minute, after which where a watch ended is not believed any more
_PAGE = "500"


@dataclass(frozen=True, slots=True)
class Listed:
    """All there is of a kind, in place of what was known of it."""

    kind: str
    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    kind: str
    item: Any
    gone: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """Nothing is heard of a kind for now. why: None once it is again."""

    kind: str
    why: str | None


News = Listed | Changed | Lost


class Watch(threading.Thread):
    """path, selector: which objects. read: what is made of each, in the thread. told: by whom it is heard, on the loop."""

    def __init__(
        self,
        api: Api,
        path: str,
        kind: str,
        read: Callable[[Json], Any],
        told: Callable[[News], None],
        loop: asyncio.AbstractEventLoop,
        selector: str = "",
    ) -> None:
        super().__init__(name=f"watch-{kind}", daemon=True)
        self._api, self._path, self._kind, self._read, self._told, self._loop = api, path, kind, read, told, loop
        self._query = [("fieldSelector", selector)] if selector else []
        self._over = threading.Event()
        self._followed: Followed | None = None
        self._version = ""  # the newest that was seen
        self._failed = 0

    def end(self) -> None:
        """From any thread; join() waits for what is under way."""
        self._over.set()
        if (followed := self._followed) is not None:
            followed.end()

    def run(self) -> None:
        """Until it is stopped: lists, follows, and lists again from time to time and whenever something went wrong."""
        exact = False
        while not self._over.is_set():
            try:
                self._list(exact)
                exact = False
                self._follow(time.monotonic() + RESYNC * random.uniform(0.8, 1.2))
            except (Away, Denied, Expired) as error:
                exact = True  # not from a cache that may never get as far as what was seen: the cluster was restored
                self._wait(error)
            except Exception as error:  # a thread that ends here would leave its kind as it was for good
                _log.exception("%s cannot be followed", self._kind)
                self._wait(error)

    def _list(self, exact: bool) -> None:
        """From the API server's memory, never older than what was seen: many nodes do not ask etcd at once. exact: from there."""
        at = [] if exact else [("resourceVersion", self._version or "0")]
        if self._version and not exact:
            at.append(("resourceVersionMatch", "NotOlderThan"))
        items: list[Any] = []
        more = ""
        while True:
            page = self._api.ask("GET", self._path, query=[*self._query, ("limit", _PAGE), *([("continue", more)] if more else at)])
            items += [self._read(item) for item in page.get("items") or ()]
            head = page.get("metadata") or {}
            if not (more := head.get("continue") or ""):
                break
        self._version = str(head.get("resourceVersion") or "")
        self._well()
        self._tell(Listed(self._kind, tuple(items)))

    def _follow(self, until: float) -> None:
        """Every change, until all is to be listed again: it is time, or the API has forgotten where this was."""
        while not self._over.is_set() and (left := until - time.monotonic()) > 0:
            begun = time.monotonic()
            try:
                lasts = max(1.0, min(left, _LASTS * random.uniform(0.8, 1.2)))
                self._followed = self._api.follow(self._path, [*self._query, ("resourceVersion", self._version)], lasts)
                if self._over.is_set():
                    self._followed.end()
                self._well()
                for event in self._followed:
                    self._hear(event)
            except Expired:
                return
            except (Away, Denied) as error:
                self._wait(error)
                # The kind itself may be gone and come back as another; or the cluster was restored, to before what was seen.
                if isinstance(error, Denied) or self._failed > _PATIENT:
                    return
            else:
                if time.monotonic() - begun < _FIRST:
                    self._over.wait(_FIRST)
            finally:
                self._followed = None

    def _hear(self, event: Json) -> None:
        item = event.get("object") or {}
        match event.get("type"):
            case "ADDED" | "MODIFIED":
                self._tell(Changed(self._kind, self._read(item), False))
            case "DELETED":
                self._tell(Changed(self._kind, self._read(item), True))
            case "BOOKMARK":
                pass
            case "ERROR" if item.get("code") == 410:
                raise Expired(str(item.get("message", "")))
            case _:
                raise Away(str(item.get("message") or "an event that is not known"))
        self._version = str((item.get("metadata") or {}).get("resourceVersion") or self._version)

    def _wait(self, error: Exception) -> None:
        if self._over.is_set():
            return
        self._failed += 1
        self._tell(Lost(self._kind, str(error)))
        longest = min(_LONGEST, _FIRST * 2 ** min(self._failed, 10))
        self._over.wait(random.uniform(longest / 2, longest))

    def _well(self) -> None:
        if self._failed:
            self._failed = 0
            self._tell(Lost(self._kind, None))

    def _tell(self, news: News) -> None:
        try:
            self._loop.call_soon_threadsafe(self._told, news)
        except RuntimeError:  # the loop is closed
            self._over.set()
