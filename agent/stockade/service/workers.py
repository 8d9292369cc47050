"""The proxy worker of an agent, and the next one when that dies, for whom connections of every sandbox wait meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stockade.audit import AuditError
from stockade.proxy import Listeners, Signing, Worker
from stockade.sandbox import seccomp
from stockade.sandbox.launch import Sockets
from stockade.service.agent import Agent
from stockade.service.governed import Governed
from stockade.service.parked import Parked
from stockade.service.settings import Settings
from stockade.service.spines import Spines
from stockade.types import Reason, StockadeError

log = logging.getLogger(__name__)

_LISTENERS = 4  # of the sockets inside a sandbox: those that the worker accepts from
_PAUSES = (0.2, 1.0, 5.0, 30.0)  # seconds until another is started, when one could not be, and the next one neither


@dataclass(frozen=True, slots=True)
class _Place:
    """A sandbox that is served. listeners: for the next worker. changed: called when another one serves it.

    agent: its own. signing: the key that signs at that moment.
    """

    agent: Agent
    governed: Governed
    listeners: Parked
    signing: Callable[[], Signing]
    changed: Callable[[], None]


class Workers:
    """first: forked before this process held a key, a thread or a loop. fork: another one."""

    def __init__(self, first: Worker, fork: Callable[[], Awaitable[Worker]]) -> None:
        self.current = first
        self._fork = fork
        self._places: dict[int, _Place] = {}
        self._spines = Spines()
        self._watching: asyncio.Task[None] | None = None
        self._reaping: asyncio.Task[None] | None = None  # of the worker before this one
        self._ready = False

    @classmethod
    def of(cls, settings: Settings) -> Workers:
        """Forked from this very process, now and later."""

        async def again() -> Worker:
            return cls.fork(settings)

        return cls(cls.fork(settings), again)

    @staticmethod
    def fork(settings: Settings) -> Worker:
        user = settings.proxy_user
        return Worker.fork(uid=user, gid=user, classifier_uid=settings.classifier_user, confine=seccomp.confinement(seccomp.WORKER))

    async def begin(self) -> None:
        """Returns when the first one is there. Raises StockadeError when it does not start."""
        try:
            await self.current.connect(self._spines)
        except ConnectionError as error:
            raise _not_started(error) from None
        self._ready = True
        self._watching = asyncio.create_task(self._watch())

    async def serve(
        self, agent: Agent, governed: Governed, sockets: Sockets, signing: Callable[[], Signing], changed: Callable[[], None]
    ) -> None:
        """Hand its listeners over; when the worker dies, to the next one. Raises StockadeError when this one does not take them.

        The listeners among the sockets are closed here.
        """
        try:
            place = self._places[governed.number] = _Place(agent, governed, Parked(sockets[:_LISTENERS]), signing, changed)
        except OSError as error:
            raise StockadeError(f"the sandbox's listeners cannot be kept: {error.strerror or error}", code="worker") from None
        self._spines.agents[governed.number] = agent
        try:
            await self._hand(place)
        except BaseException as error:
            await self.release(governed.number)
            if isinstance(error, OSError):
                raise _not_started(error) from None
            raise

    async def _hand(self, place: _Place) -> None:
        listeners = Listeners(*place.listeners.copies())
        await self.current.serve(place.governed.number, listeners, place.signing(), place.governed.policy)

    async def _hand_again(self, place: _Place) -> None:
        """Raises OSError when the worker is lost too. One sandbox that it cannot serve is no reason not to serve the others."""
        if place.governed.number not in self._places:  # it has ended meanwhile
            return
        try:
            await self._hand(place)
        except OSError as error:
            if self.current.lost.is_set():
                raise
            log.error("%s is not served: %s", place.governed.sandbox.name, error)

    async def release(self, number: int) -> None:
        """The sandbox has ended: returns when what it had open is cut and on record. May be called twice."""
        place = self._places.pop(number, None)
        if place is None:
            return
        place.listeners.close()
        with contextlib.suppress(ConnectionError):
            await self.current.release(number)
        if number not in self._places:
            self._spines.forget(number)

    async def _watch(self) -> None:
        failed = 0
        while True:
            await self.current.lost.wait()
            self._ready = False
            lost = self.current
            self._spines.lost()
            for place in list(self._places.values()):
                if (ledger := place.agent.ledgers.get(place.governed.number)) is not None:
                    ledger.worker_gone()
                try:
                    place.agent.lifecycle(place.governed, Reason.WORKER_LOST, {"pid": lost.pid})
                except AuditError as error:
                    log.error("audit trail: %s", error)
            try:
                self.current = await self._fork()
                self._reaping = asyncio.create_task(lost.close())  # which may take some seconds
                for place in list(self._places.values()):
                    place.changed()
                await self.current.connect(self._spines)
                for place in list(self._places.values()):
                    await self._hand_again(place)
            except (ConnectionError, OSError, StockadeError) as error:
                log.error("no proxy worker: %s", error)
                await asyncio.sleep(_PAUSES[min(failed, len(_PAUSES) - 1)])
                failed += 1
                continue
            self._ready, failed = True, 0

    @property
    def serving(self) -> int:
        """How many serve now: none between the death of one and the start of the next."""
        return int(self._ready and not self.current.lost.is_set())

    async def end(self) -> None:
        """May be called twice."""
        if self._watching is not None:
            self._watching.cancel()
        for place in self._places.values():
            place.listeners.close()
        self._places.clear()
        if self._reaping is not None:
            await self._reaping
        await self.current.close()


def _not_started(error: OSError) -> StockadeError:
    return StockadeError(f"the proxy worker did not start: {error}", code="worker")
