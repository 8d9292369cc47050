"""The controller's life: four watches, three tasks, one loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from stockade.kubernetes import api, resources
from stockade.kubernetes.api import Api
from stockade.kubernetes.controller import CLUSTER_POLICIES, NAMESPACES, PODS, POLICIES, Controller, latest
from stockade.kubernetes.events import Announcer
from stockade.kubernetes.kept import Kept
from stockade.kubernetes.reporting import Reporter
from stockade.kubernetes.resources import Json
from stockade.kubernetes.wanting import Unmatched
from stockade.kubernetes.watching import Watch
from stockade.node.pod import Listener, Node


class Late:
    """The Listener for a node that is made before its controller is."""

    def __init__(self) -> None:
        self.to: Listener | None = None


@contextlib.asynccontextmanager
async def controlling(cluster: Api, node: Node, name: str, state: Path, unmatched: Unmatched) -> AsyncIterator[Controller]:
    """A controller at work on this loop, for as long as the context lasts. name: of the node. Raises what ends one of its tasks."""
    loop = asyncio.get_running_loop()
    controller = Controller(node, name, Kept(state), unmatched)
    reporter = controller.reporter = Reporter(cluster, latest(controller))
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
            for watch in watches:
                watch.start()
            yield controller
            for task in tasks:
                task.cancel()
    finally:
        for watch in watches:
            watch.end()
        await asyncio.gather(*(asyncio.to_thread(watch.join, 10) for watch in watches if watch.is_alive()))


def _namespace(item: Json) -> tuple[str, dict[str, str]]:
    return resources.key_of(item)[1], resources.labels_of(item)
