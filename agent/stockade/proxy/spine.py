"""What a worker may ask of the agent, and what it is given to serve a sandbox with.

The agent answers; the worker trusts the answers. Never the other way round: what comes from a worker is checked by `codec`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stockade.kernel.abi import Origin
from stockade.types import Binary, Effect, Http, Reason, Record


class Listeners(NamedTuple):
    """Listening sockets made inside one sandbox's network namespace, of IPPROTO_TCP; the worker accepts, the agent keeps no copy open."""

    inspect4: socket.socket
    inspect6: socket.socket
    relay4: socket.socket
    relay6: socket.socket


@dataclass(frozen=True, slots=True)
class Caller:
    """Who opened a connection and what it dialled. host: the name behind the synthetic address, or the literal; None = not known."""

    binary: Binary
    ancestry: tuple[str, ...]
    host: str | None
    port: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """Addresses that passed the agent's table of refused ranges; one of them is dialled as it stands. refused: why there is none."""

    addresses: tuple[str, ...]
    refused: str | None = None


class Spine(Protocol):
    """The agent as a worker sees it: each method is one round trip on the channel."""

    async def identify(self, origin: Origin) -> Caller:
        """Who is behind an origin that the kernel gave."""

    async def resolve(self, host: str, port: int, sandbox: int) -> Resolved:
        """Addresses to dial for host; `localhost` is the loopback of the host itself."""

    async def record(self, sandbox: int, record: Record) -> int:
        """Write one decision. Returns its number when it is safely in the trail; raises when it cannot be, and then the worker denies."""

    async def begin(self, sandbox: int, record: Record) -> int:
        """Write ahead an allowed request. Returns a token; the request goes out only after that."""

    async def finish(self, token: int, http: Http | None, effect: Effect, reason: Reason) -> None:
        """Complete the one record of a begun request with its status and byte counts."""
