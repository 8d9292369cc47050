"""The life of the node's agent, from the first fork to the last record; as a daemon's (daemon/main.py), without a socket to ask it by."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
from collections.abc import Callable
from typing import Protocol

from stockade.daemon.nursery import Nursery
from stockade.kernel.load import mounted_bpffs
from stockade.node.addresses import IPNetwork
from stockade.node.pod import Listener, Node
from stockade.node.station import Pods, listeners
from stockade.policy.rego import judge
from stockade.sandbox import libc
from stockade.service.settings import Settings
from stockade.service.workers import Workers
from stockade.types import StockadeError

PORTS = 61501, 61502  # of the agent in every pod: above what the kernel hands out, and none that a mesh takes


class Cluster(Listener, Protocol):
    """Whoever knows which pods there are and what they are to be held to."""

    async def run(self, node: Node) -> None:
        """Until it is cancelled. Raises StockadeError when nothing can be known."""


def serve(settings: Settings, cluster: Callable[[], Cluster], node_networks: tuple[IPNetwork, ...] = ()) -> None:
    """Until SIGTERM or SIGINT. cluster: made on the loop. Raises StockadeError when it cannot serve."""
    if os.geteuid() != 0:
        raise StockadeError("the node's agent needs root", code="not_root")
    judge.use(None)  # as in `run`
    os.umask(0o022)
    inspect, relay = PORTS
    settings = dataclasses.replace(settings, network=dataclasses.replace(settings.network, inspect_port=inspect, relay_port=relay))
    bpffs = mounted_bpffs(settings.run / "bpf")
    nursery = Nursery.begin(settings, listeners())
    try:
        first = Workers.fork(settings)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        pods = Pods(settings, nursery, Workers(first, nursery.worker), bpffs, node_networks)
        asyncio.run(_serve(pods, cluster))
    finally:
        nursery.close()


async def _serve(pods: Pods, cluster: Callable[[], Cluster]) -> None:
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    async with contextlib.AsyncExitStack() as stack:
        knows = cluster()
        await pods.begin(stack, knows)
        running = asyncio.create_task(knows.run(pods))
        stack.callback(running.cancel)
        ended = asyncio.create_task(over.wait())
        stack.callback(ended.cancel)
        await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
