"""The proxy worker that serves one sandbox, and the next one when that dies, for whom connections wait meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stockade.proxy import Authority, Listeners, Worker
from stockade.sandbox import seccomp
from stockade.sandbox.launch import Sockets
from stockade.service.agent import Agent
from stockade.service.governed import Governed
from stockade.service.settings import Settings
from stockade.types import Reason, StockadeError


class Workers:
    """first: forked before this process held a key, a thread or a loop. changed: called when another one serves."""

    def __init__(self, first: Worker, settings: Settings) -> None:
        self.current = first
        self.changed: Callable[[], None] = lambda: None
        self._settings = settings
        self._watching: asyncio.Task[None] | None = None
        self._ready = False

    @classmethod
    def fork(cls, settings: Settings) -> Worker:
        user = settings.proxy_user
        return Worker.fork(uid=user, gid=user, classifier_uid=settings.classifier_user, confine=seccomp.confinement(seccomp.WORKER))

    async def serve(self, agent: Agent, governed: Governed, sockets: Sockets, authority: Authority) -> None:
        """Hand the listeners over; when the worker dies, to the next one. Raises StockadeError when the first does not start."""
        kept = [sock.dup() for sock in sockets[:4]]

        async def start(worker: Worker) -> None:
            await worker.connect(agent)
            listeners = Listeners(*(sock.dup() for sock in kept))
            await worker.serve(governed.number, listeners, authority, governed.policy)
            self._ready = True

        async def watch() -> None:
            while True:
                await self.current.lost.wait()
                self._ready = False
                agent.ledgers[governed.number].worker_gone()
                agent.lifecycle(governed, Reason.WORKER_LOST, {"pid": self.current.pid})
                self.current = self.fork(self._settings)
                self.changed()
                await start(self.current)

        for sock in sockets[:4]:
            sock.close()
        try:
            await start(self.current)
        except ConnectionError as error:
            raise StockadeError(f"the proxy worker did not start: {error}", code="worker") from None
        self._watching = asyncio.create_task(watch())

    @property
    def serving(self) -> int:
        """How many serve now: none between the death of one and the start of the next."""
        return int(self._ready and not self.current.lost.is_set())

    async def end(self) -> None:
        """May be called twice."""
        if self._watching is not None:
            self._watching.cancel()
        await self.current.close()
