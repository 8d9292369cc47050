"""Who else speaks on a connection than the program that opened it, as the kernel saw it (bpf/taint.c).

A descriptor can be inherited or handed on. What is asked on such a connection is decided for both: the one that opened it, and the other.
Several others, or one without an identity, are nobody, and nobody is allowed anything.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable

from stockade.kernel.abi import Origin, Speaker
from stockade.proxy.agent import Agent
from stockade.proxy.spine import Caller
from stockade.types import UNKNOWN_BINARY, Reason

SpeakerOf = Callable[[socket.socket], Speaker | None]


class Gone(Exception):
    """The client is no more: the kernel has forgotten who spoke."""


class Taint:
    """What is known of one connection. caller: the other one, once it spoke."""

    def __init__(self, client: socket.socket, speaker_of: SpeakerOf) -> None:
        self._client, self._speaker_of = client, speaker_of
        self._heard: Speaker | None = None  # as the kernel last said
        self._speaker: Speaker | None = None  # whom `caller` is
        self.caller: Caller | None = None

    def _ask(self) -> Speaker | None:
        try:
            self._heard = self._speaker_of(self._client)
        except (OSError, ValueError) as error:
            raise Gone("the client is gone, and with it what is known of who spoke") from error
        return self._heard

    def stirred(self) -> Reason | None:
        """Why what was decided after the last `look` no longer holds: another spoke, or that can no longer be told. None: it holds."""
        try:
            return Reason.SOCKET_TAINTED if self._ask() != self._speaker else None
        except Gone:
            return Reason.INTERRUPTED

    @property
    def pid(self) -> int | None:
        return self._speaker.pid or None if self._speaker is not None else None

    async def look(self, origin: Origin, opener: Caller, agent: Agent) -> Caller | None:
        """The other one, as of now; None when there is none. Raises Gone, or ConnectionError when the agent is."""
        while self._ask() != self._speaker:
            await self.recall(origin, opener, agent)
        return self.caller

    async def recall(self, origin: Origin, opener: Caller, agent: Agent) -> Caller | None:
        """The other one, as last heard of: for a record, when the client is gone. Raises ConnectionError."""
        found = self._heard
        if found is not None:
            caller = dataclasses.replace(opener, binary=UNKNOWN_BINARY, ancestry=())
            if found.exec_id:
                caller = await agent.identify(dataclasses.replace(origin, identity=found.identity, exec_id=found.exec_id, pid=found.pid))
            self._speaker, self.caller = found, caller
        return self.caller
