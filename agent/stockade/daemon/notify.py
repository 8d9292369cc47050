"""What systemd is told of a service of Type=notify (sd_notify(3)): datagrams to the socket that it named; nothing where it named none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable


def tell(*lines: str) -> None:
    """As `READY=1`. Nobody waits for it, and nothing depends on it."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock, contextlib.suppress(OSError):
        sock.sendto("\n".join(lines).encode(), name.replace("@", "\0", 1) if name[0] == "@" else name)


def reloading() -> None:
    """Until the next READY=1."""
    tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


async def keep_awake(status: Callable[[], str]) -> None:
    """Tell the watchdog that the loop turns, twice as often as it wants to know; and whoever asks systemd, what it does."""
    try:
        microseconds = int(os.environ["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return
    while True:
        tell("WATCHDOG=1", f"STATUS={status()}")
        await asyncio.sleep(microseconds / 2e6)
