"""Neighbours: how one sandbox reaches another, agent to agent. Both policies are asked, each by its own agent; nothing else joins the two.

The caller's agent asks the control socket of the other sandbox, which is root's and held by whoever runs a sandbox of that name. What comes
back is one end of a TCP connection on the host's loopback; the other end, and the socket that leads inside, stay with the other sandbox's
agent and worker. So each side counts and cuts for itself, a cut is a reset on either side, and no socket of a sandbox's network namespace,
which could be dialled on from, is ever in the hands of another sandbox's worker.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade.policy.neighbour import Neighbour
from stockade.proxy.spine import Unreached
from stockade.service import control
from stockade.types import Binary, Reason, Sandbox, StockadeError

SECONDS = 10.0  # for the other agent to let us in: a server inside that is slow to accept is part of it
REFUSED = "source_refused"  # the code of an answer that says no
TEXT = 4096
LABELS = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks to come in, as its agent knows it. labels: `key=value`. program: the file that dials."""

    neighbour: Neighbour
    id: str
    labels: tuple[str, ...] = ()
    program: str = ""
    pid: int = 0

    @classmethod
    def of(cls, said: dict[str, Any]) -> Caller:
        """From the arguments of the verb. Raises StockadeError."""
        try:
            labels = said.get("labels", [])
            if not isinstance(labels, list) or len(labels) > LABELS:
                raise ValueError(f"labels is a list of at most {LABELS} texts")
            pid = said.get("pid", 0)
            if type(pid) is not int or pid < 0:
                raise ValueError("pid is a number")
            neighbour = Neighbour.parse(_text(said.get("sandbox")))
            return cls(neighbour, _text(said.get("id")), tuple(map(_text, labels)), _text(said.get("program", "")), pid)
        except ValueError as error:
            raise StockadeError(str(error), code="bad_argument") from None

    def said(self) -> dict[str, Any]:
        return {"sandbox": str(self.neighbour), "id": self.id, "labels": list(self.labels), "program": self.program, "pid": self.pid}

    def detail(self) -> dict[str, str | int | list[str]]:
        """What the record of the one who is visited says of it."""
        return {
            "source": str(self.neighbour),
            "source_id": self.id,
            "source_labels": list(self.labels),
            "source_program": self.program,
            "source_pid": self.pid,
        }


def caller(sandbox: Sandbox, binary: Binary, pid: int) -> Caller:
    labels = tuple(f"{key}={value}"[:TEXT] for key, value in list(sandbox.labels.items())[:LABELS])
    return Caller(Neighbour(sandbox.name), sandbox.id, labels, (binary.script or binary.path)[:TEXT], pid)


async def reach(directory: Path, name: str, port: int, who: Caller) -> socket.socket | Unreached:
    """Into a port of the sandbox called so, if its policy lets this one in. directory: of the control sockets."""
    try:
        return await control.ask_for_socket(directory, name, "dial", SECONDS, port=port, **{"from": who.said()})
    except StockadeError as error:
        reason = Reason.SOURCE_REFUSED if error.code == REFUSED else Reason.UPSTREAM_UNREACHABLE
        return Unreached(reason, error.message)


async def pair(seconds: float) -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection over the host's loopback. Raises OSError.

    TCP, and not a socketpair: closing one end of that tells the other nothing but the end of the data, also when it was cut.
    """
    loop = asyncio.get_running_loop()
    near = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            near.setblocking(False)
            async with asyncio.timeout(seconds):
                await loop.sock_connect(near, listener.getsockname())
                while True:
                    far, peer = await loop.sock_accept(listener)
                    if peer == near.getsockname():
                        return near, far
                    far.close()  # somebody on this host who tries every port
    except BaseException:
        near.close()
        raise


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > TEXT:
        raise ValueError(f"a text of at most {TEXT} characters is wanted")
    return value
