"""What a worker may ask of the agent, and what it is given to serve a sandbox with.

The agent answers; the worker trusts the answers. Never the other way round: what comes from a worker is checked by `codec`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from stockade.kernel.abi import Origin
from stockade.metrics.figures import Figures
from stockade.types import Binary, Effect, Http, Reason, Record

Detail = dict[str, str | int | list[str]]


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


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision that is in the trail. id: the name of its record, empty where the policy goes on without one. approval: the id under which
    a person may approve what was refused.
    """

    id: str
    approval: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """Where the local model of a policy is. key: what it asks for, of the agent's own environment. refused: why it cannot be had."""

    addresses: tuple[str, ...]
    key: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Unreached:
    """Another sandbox that cannot be had: reason for record and answer, error in words."""

    reason: Reason
    error: str


@dataclass(frozen=True, slots=True)
class Begun:
    """An allowed request that is written ahead. once: it was approved for this one time, so a policy that no longer says so spares it."""

    token: int
    once: bool = False


@dataclass(frozen=True, slots=True)
class Passed:
    """What became of a connection that came in. sent: bytes of the peer outside; received: of the listener inside."""

    sent: int
    received: int
    reason: Reason


class Spine(Protocol):
    """The agent as a worker sees it: each method is one round trip on the channel."""

    async def identify(self, origin: Origin) -> Caller:
        """Who is behind an origin that the kernel gave."""

    async def resolve(self, origin: Origin, generation: int) -> Resolved:
        """Addresses to dial for host; `localhost` is the loopback of the host itself.

        generation: of the policy that let the request pass. The agent may have switched by now, and the worker is about to hear of it:
        which addresses may be dialled is decided by the same policy.
        """

    async def reach(self, origin: Origin, generation: int) -> socket.socket | Unreached:
        """A connection to another sandbox, whose own agent let it in: that is never dialled from here. generation: as for `resolve`."""

    async def local(self, sandbox: int, generation: int) -> Local:
        """The local model that the policy of that generation names: a worker may not choose where to."""

    async def record(self, sandbox: int, record: Record) -> Recorded:
        """Write one decision; raises when it cannot be written, and then the worker denies."""

    async def begin(self, sandbox: int, record: Record) -> Begun | None:
        """Write ahead an allowed request, which goes out only after that. None: its approval was used up; judge it again."""

    async def approval(self, sandbox: int, identifier: str) -> dict[str, Any] | None:
        """What a sandbox may read of one of its approvals; None when it has no such."""

    async def finish(self, token: int, http: Http | None, effect: Effect, reason: Reason, detail: Detail | None = None) -> str:
        """Complete the one record of a begun request with its status and byte counts, and return its name, empty where the policy goes on
        without one. detail: added to what it was begun with.
        """

    def figures(self, sandbox: int, figures: Figures) -> None:
        """What the worker measured since it last said so. Not a question: nobody waits."""
