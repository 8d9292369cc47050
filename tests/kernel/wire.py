"""The agent's end of a sandbox's network: the launcher's own sockets in a namespace that has only lo, and what arrives at them."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from stockade.kernel.abi import Network, Origin
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.launch import Launcher, Sockets

NETWORK = Network()


class Arrival(NamedTuple):
    """A connection, and the name of the listener that got it."""

    listener: str
    connection: socket.socket

    @property
    def origin(self) -> Origin:
        """Asked for once. Raises OSError when the kernel knows nothing."""
        return Origin.of(self.connection)


class Wire:
    """netns: the sandbox's. bare: another of the same kind, where nobody listens any more."""

    def __init__(self, netns: int, sockets: Sockets, bare: int) -> None:
        self.netns, self.sockets, self.bare = netns, sockets, bare
        for listening in sockets:
            listening.setblocking(False)
        self._accepted: list[socket.socket] = []

    def arrivals(self) -> list[Arrival]:
        """Every connection that waits. On lo it is in the queue before connect() returns, so nothing is waited for."""
        found = []
        for name, listening in self.sockets._asdict().items():
            with contextlib.suppress(BlockingIOError):
                while "_udp" not in name:
                    connection = listening.accept()[0]
                    connection.setblocking(True)
                    self._accepted.append(connection)
                    found.append(Arrival(name, connection))
        return found

    def arrival(self) -> Arrival:
        """The only connection that waits."""
        (only,) = self.arrivals()
        return only

    def datagram(self, name: str) -> tuple[bytes, tuple[str, int]]:
        """The datagram that waits at a resolver's socket, and its sender."""
        listening: socket.socket = getattr(self.sockets, name)
        assert select.select([listening], [], [], 5)[0], f"nothing arrived at {name}"
        data, peer = listening.recvfrom(4096)
        return data, peer

    def silent(self) -> bool:
        """Nothing at all arrived."""
        return not self.arrivals() and not select.select([self.sockets.resolve_udp4, self.sockets.resolve_udp6], [], [], 0)[0]

    def clear(self) -> None:
        self.arrivals()
        while self._accepted:
            self._accepted.pop().close()
        for datagrams in (self.sockets.resolve_udp4, self.sockets.resolve_udp6):
            with contextlib.suppress(BlockingIOError):
                while True:
                    datagrams.recv(1)


@contextmanager
def laid(listeners: Cgroup) -> Iterator[Wire]:
    """listeners: the cgroup whose sockets answer ORIGIN."""
    sockets, netns = _namespace(listeners)
    closed, bare = _namespace(listeners)
    for listening in closed:
        listening.close()
    try:
        yield Wire(netns, sockets, bare)
    finally:
        os.close(netns)
        os.close(bare)
        for listening in sockets:
            listening.close()


def _namespace(listeners: Cgroup) -> tuple[Sockets, int]:
    launcher = Launcher.fork()
    try:
        listeners.add(launcher.pid)
        return launcher.open_network(NETWORK), os.open(f"/proc/{launcher.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        launcher.abandon()
