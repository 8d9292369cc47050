"""The page of metrics of one agent: rendered in a thread, once a second at most, however often it is asked for.

Imported only where somebody said where to listen: most runs export nothing, and start-up time is part of the product.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from stockade.metrics.collector import Page
from stockade.metrics.endpoint import Endpoint
from stockade.metrics.listen import Listen
from stockade.metrics.namespaces import Namespaces
from stockade.metrics.samples import samples
from stockade.metrics.snapshot import Snapshot
from stockade.metrics.targets import Target, sweep
from stockade.service.control import running

log = logging.getLogger(__name__)

FRESH = 1.0  # seconds for which a page is as good as a new one


class Exported:
    """The page of an agent, served as long as it lives. Made only where somebody said where to listen."""

    def __init__(
        self, listen: Listen, directory: Path, name: str, snapshots: Callable[[], list[Snapshot]], namespaces: Namespaces | None = None
    ) -> None:
        """directory: of targets. snapshots: of the sandboxes that the agent serves now. namespaces: of those that are pods."""
        self.endpoint = Endpoint(listen, self._render)
        self._listen, self._directory, self._name = listen, directory, name
        self._page = Page()
        self._snapshots, self._namespaces = snapshots, namespaces
        self._made: dict[str, tuple[float, tuple[bytes, str]]] = {}
        self._target = Target(directory, name)
        self.kept = False  # what is left behind when it is closed: a target that is down

    def open(self) -> None:
        """Take the port. Raises StockadeError."""
        self.endpoint.open()

    def serve(self, control: Path) -> None:
        """Answer from now on, and let a Prometheus find out where. control: the directory of control sockets."""
        self.endpoint.serve()
        try:
            self._target.write(self.endpoint.address, self._listen.scheme)
            sweep(self._directory, {*running(control), self._name})
        except OSError as error:  # whoever was told the address finds it there
            log.error("metrics: no target for Prometheus in %s: %s", self._directory, error)

    async def close(self) -> None:
        await self.endpoint.close()
        if not self.kept:
            self._target.remove()

    async def _render(self, accept: str) -> tuple[bytes, str]:
        made = self._made.get(accept)
        if made is not None and time.monotonic() - made[0] < FRESH:
            return made[1]
        found = list(samples(self._snapshots(), self.endpoint.requests, self._namespaces))
        page = await asyncio.to_thread(self._page.render, found, accept)
        self._made = {accept: (time.monotonic(), page)}
        return page
