"""One `stockade run` that a daemon serves: the order as it comes over the socket, and what is told of the command until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockade.daemon import ordered
from stockade.daemon.front import Json, Spoken
from stockade.daemon.host import Host
from stockade.daemon.nursery import Nursery
from stockade.daemon.ordered import text
from stockade.policy import Policy
from stockade.service.blueprint import Surroundings
from stockade.service.order import Order
from stockade.service.session import Session
from stockade.service.settings import Settings
from stockade.service.watch import Watch
from stockade.types import Sandbox, StockadeError

SIGNALS = frozenset(
    (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT)
)
_STREAMS = 3


def said(order: Order, around: Surroundings) -> Json:
    """An order as it is sent. Paths are absolute: the daemon is somewhere else."""
    return ordered.said(order) | {"directory": str(around.directory), "home": str(around.home), "environment": dict(around.environment)}


def heard(said: Mapping[str, Any]) -> tuple[Order, Surroundings]:
    """Raises ValueError, KeyError, TypeError for what `said` never makes."""
    order = ordered.heard(said)
    if not order.command:
        raise ValueError("no command")
    environment = {text(name): text(value) for name, value in said["environment"].items()}
    return order, Surroundings(Path(text(said["directory"])), Path(text(said["home"])), environment)


async def run(arguments: Json, spoken: Spoken, host: Host, nursery: Nursery, settings: Settings) -> None:
    """Until the command ends. Raises StockadeError when it could not be started."""
    try:
        order, around = heard(arguments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StockadeError(f"not an order: {error!r}", code="bad_request") from None
    if len(spoken.descriptors) != _STREAMS:
        raise StockadeError("an order comes with three standard streams", code="bad_request")
    watch = Watch()
    policy = await asyncio.to_thread(_policy, order, watch)
    for warning in policy.warnings if order.verbose else ():
        spoken.say(said=f"stockade: {warning}")
    slot = await asyncio.to_thread(host.take)
    try:
        streams = (spoken.descriptors[0], spoken.descriptors[1], spoken.descriptors[2])
        launcher = await nursery.launcher(streams)
    except BaseException:
        await asyncio.to_thread(slot.release)
        raise
    while spoken.descriptors:
        os.close(spoken.descriptors.pop())

    def started(sandbox: Sandbox, init: int) -> None:
        spoken.say(started={"sandbox": sandbox.name, "id": sandbox.id, "init": init})

    session = Session(settings, order, policy, watch, slot, launcher, around, lambda: None, lambda line: spoken.say(said=line), apart=True)
    listening = asyncio.create_task(_listen(spoken, session))
    try:
        status = await host.run(slot, session, started)
    finally:
        listening.cancel()
        await asyncio.to_thread(launcher.abandon)
    spoken.say(ended=status)


def _policy(order: Order, watch: Watch) -> Policy:
    if order.approved is not None:
        order.approved.create()
    with watch.reading() as named:
        policy = order.policy(1, named)
        named += policy.sources
    return policy


async def _listen(spoken: Spoken, session: Session) -> None:
    """Signals for the command. Whoever hangs up hangs up on it."""
    with contextlib.suppress(ValueError, OSError):
        while (line := await spoken.hear()) is not None:
            number = line.get("signal")
            if number in SIGNALS:
                session.forward(int(number))
    session.forward(signal.SIGHUP)
