"""The daemon's socket: who speaks, and what of it they may ask. JSON lines as on a sandbox's own control socket (service/control.py).

Root may ask for everything, members of the group `stockade` for what only looks. A `run` brings its standard streams along and stays: what
happens to the command is told on the same connection, and signals for it come the other way.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from stockade.descriptors import receive
from stockade.service.control import ANSWER, LINE, VERSION, Peer
from stockade.service.listening import Listening
from stockade.types import StockadeError

log = logging.getLogger(__name__)

GROUP = "stockade"
LOOKS = frozenset({"node", "overview"})  # what members of the group may ask
GUESTS = 32  # connections of others than root at once
PATIENCE = 10.0  # seconds that one of them may take
LAST_WORDS = 5.0  # seconds in which an answer may be read
_STREAMS = 3
_PEER_GROUPS, _GROUPS = 59, 256  # SO_PEERGROUPS; how many fit into the longest answer that getsockopt takes (1,024 octets)

Json = dict[str, Any]


class Spoken:
    """One connection: lines both ways, and the descriptors that came with the first."""

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self._sock, self.peer = sock, peer
        self.descriptors: list[int] = []
        self._heard = self._unsaid = b""

    async def hear(self) -> Json | None:
        """The next line; None at the end. Raises ValueError."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._heard:
            data, received = await self._receive(loop)
            self.descriptors += received
            if not data:
                return None
            self._heard += data
            if len(self._heard) > LINE or len(self.descriptors) > _STREAMS:
                raise ValueError("too long, or too many descriptors")
        line, _, self._heard = self._heard.partition(b"\n")
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("an object is wanted")
        return found

    async def _receive(self, loop: asyncio.AbstractEventLoop) -> tuple[bytes, list[int]]:
        while True:
            try:
                data, received = receive(self._sock, LINE, _STREAMS + 1)
            except BlockingIOError:
                readable = asyncio.Event()
                loop.add_reader(self._sock, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self._sock)
            else:
                return data, received

    def say(self, **said: object) -> None:
        """A line, whole or not at all. Whoever does not read loses what is too much: the daemon waits for nobody."""
        self._unsaid += json.dumps({"v": VERSION, **said}).encode() + b"\n"
        if len(self._unsaid) > ANSWER:
            self._sock.shutdown(socket.SHUT_RDWR)
        self._go_on()

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._unsaid = self._unsaid[self._sock.send(self._unsaid, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsaid = b""
        if self._unsaid:
            loop.add_writer(self._sock, self._go_on)
        else:
            loop.remove_writer(self._sock)

    async def drain(self) -> None:
        """What is said is gone when this returns; or whoever should read it does not."""
        until = asyncio.get_running_loop().time() + LAST_WORDS
        while self._unsaid and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.01)

    def refuse(self, error: StockadeError) -> None:
        self.say(ok=False, error={"message": error.message, "hint": error.hint, "code": error.code})

    def close(self) -> None:
        asyncio.get_running_loop().remove_writer(self._sock)
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()
        self._sock.close()


Verb = Callable[[Json, Spoken], Awaitable[None]]


class Front(Listening):
    """The listening socket. Taken early, so that there is one daemon; served once there is something to serve."""

    @classmethod
    def take(cls, path: Path) -> Front:
        """Raises StockadeError when another daemon has it."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        front = cls.bound(path, StockadeError("a daemon is running", hint=f"it listens on {path}", code="daemon_running"))
        if (group := _group()) is not None:  # a machine without that group is root's alone
            os.chown(path, 0, group)
            path.chmod(0o660)
            path.parent.chmod(0o711)  # what is in it is root's, each by its own mode
        return front

    def serve(self, verbs: Mapping[str, Verb]) -> None:
        """Answer on the running loop."""
        guests = asyncio.Semaphore(GUESTS)

        async def speak(client: socket.socket) -> None:
            spoken = Spoken(client, Peer.of(client))
            if spoken.peer.uid == 0:
                await self._speak(spoken, verbs, frozenset())
            elif guests.locked():
                spoken.close()
            else:
                with contextlib.suppress(TimeoutError):
                    async with guests, asyncio.timeout(PATIENCE):
                        await self._speak(spoken, verbs, groups(client))

        self.speak_to_all(speak)

    async def _speak(self, spoken: Spoken, verbs: Mapping[str, Verb], groups: frozenset[int]) -> None:
        try:
            while (request := await spoken.hear()) is not None:
                name, arguments = request.get("verb"), request.get("arguments", {})
                if request.get("v") != VERSION or not isinstance(arguments, dict):
                    raise StockadeError(f"this daemon speaks version {VERSION}", hint="of one build with its client", code="version")
                verb = verbs.get(name) if isinstance(name, str) else None
                if verb is None:
                    raise StockadeError(f"no verb {name!r}", hint=", ".join(sorted(verbs)), code="no_verb")
                if spoken.peer.uid != 0 and not (name in LOOKS and _group() in groups):
                    log.error("control: uid %d may not %s", spoken.peer.uid, name)
                    raise StockadeError(f"uid {spoken.peer.uid} may not {name}", hint=f"the group {GROUP} may look", code="not_root")
                await verb(arguments, spoken)
        except StockadeError as error:
            spoken.refuse(error)
        except (ValueError, RecursionError) as error:
            spoken.refuse(StockadeError(f"not a request: {error}", code="bad_request"))
        except OSError as error:
            log.error("control: %s", error)
        except Exception as error:
            log.exception("control verb failed")
            spoken.refuse(StockadeError(f"the daemon failed: {error!r}", hint="see its log", code="agent"))
        finally:
            await spoken.drain()
            spoken.close()


def _group() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def groups(sock: socket.socket) -> frozenset[int]:
    """Of the peer, as the kernel knew them when it connected: its own and the others (SO_PEERGROUPS)."""
    own = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[2]
    with contextlib.suppress(OSError):
        raw = sock.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, 4 * _GROUPS)
        return frozenset((own, *(number for (number,) in struct.iter_unpack("I", raw))))
    return frozenset((own,))
