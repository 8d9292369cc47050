"""The controller's life: four watches, some tasks, one loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from stockade.kubernetes import api, resources
from stockade.kubernetes.api import Api
from stockade.kubernetes.controller import CLUSTER_POLICIES, NAMESPACES, PODS, POLICIES, Controller
from stockade.kubernetes.events import Announcer
from stockade.kubernetes.kept import Kept
from stockade.kubernetes.reporting import Reporter
from stockade.kubernetes.resources import Json
from stockade.kubernetes.wanting import Unmatched
from stockade.kubernetes.watching import Watch
from stockade.node.pod import Node, Standing
from stockade.settings.kubernetes import KUBELET, Kubernetes
from stockade.types import StockadeError

_log = logging.getLogger(__name__)
_COUNTED = 600.0  # seconds


class Known:
    """The `Cluster` of the node's agent: who knows which pods there are, by asking the API."""

    def __init__(self, cluster: Api, name: str, said: Kubernetes) -> None:
        self._cluster, self._name, self._said = cluster, name, said
        self._controller: Controller | None = None

    async def run(self, node: Node) -> None:
        """Until it is cancelled. Raises StockadeError."""
        said, own, space = self._said, os.environ.get("POD_UID", ""), os.environ.get("POD_NAMESPACE", "")
        try:
            async with controlling(
                self._cluster, node, self._name, said.state, said.unmatched, said.kubelet, own, space
            ) as self._controller:
                await asyncio.get_running_loop().create_future()
        except ExceptionGroup as group:
            wrong = group.subgroup(OSError)
            if wrong is None:
                raise
            hint = "kubernetes.state in the settings names a directory of the node that outlives the agent"
            raise StockadeError(f"{said.state} cannot be used: {wrong.exceptions[0]}", hint=hint, code="kubernetes") from None

    def stands(self, standing: Standing) -> None:
        if self._controller is not None:
            self._controller.stands(standing)

    def recorded(self, uid: str, record: Json) -> None:
        if self._controller is not None:
            self._controller.recorded(uid, record)


@contextlib.asynccontextmanager
async def controlling(
    cluster: Api, node: Node, name: str, state: Path, unmatched: Unmatched, kubelet: Path = KUBELET, own: str = "", space: str = ""
) -> AsyncIterator[Controller]:
    """A controller at work on this loop, for as long as the context lasts. name: of the node; own: the uid of the pod that this is.

    Raises what ends one of its tasks."""
    loop = asyncio.get_running_loop()
    controller = Controller(node, name, Kept(state), unmatched, kubelet, own, space)
    reporter = controller.reporter = Reporter(cluster, controller.generations.latest)
    announcer = controller.announcer = Announcer(cluster, name)
    watches = [
        Watch(cluster, api.PODS, PODS, resources.pod, controller.told, loop, f"spec.nodeName={name}"),
        Watch(cluster, api.NAMESPACES, NAMESPACES, _namespace, controller.told, loop),
        Watch(cluster, api.POLICIES, POLICIES, resources.policy, controller.told, loop),
        Watch(cluster, api.CLUSTER_POLICIES, CLUSTER_POLICIES, resources.policy, controller.told, loop),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run()) for each in (controller, reporter, announcer)]
            tasks.append(group.create_task(controller.generations.roll(reporter, controller.concerned)))
            tasks.append(group.create_task(_counted(cluster)))
            for watch in watches:
                watch.start()
            yield controller
            for task in tasks:
                task.cancel()
    finally:
        for watch in watches:
            watch.end()
        await asyncio.gather(*(asyncio.to_thread(watch.join, 10) for watch in watches if watch.is_alive()))


async def _counted(cluster: Api) -> None:
    """Say now and then how often the API was asked: what a node costs it should be known."""
    while True:
        before, begun = cluster.asked.copy(), time.monotonic()
        await asyncio.sleep(_COUNTED)
        more = ", ".join(f"{number} {method}" for method, number in sorted((cluster.asked - before).items())) or "nothing"
        _log.info("asked the API in %.0f minutes: %s", (time.monotonic() - begun) / 60, more)


def _namespace(item: Json) -> tuple[str, dict[str, str]]:
    return resources.key_of(item)[1], resources.labels_of(item)
