"""What attacks try to reach: listeners in the tests' namespace and on the host, and an ear on the wire that misses no frame.

Every attack carries a token of its own, `~phase.id~`, which is a path segment as well. What was heard of a token, on the wire or by a
listener, got out.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from framework.internet import Internet
from framework.patience import PATIENCE

PORT = 7100  # TCP and UDP, on every address of the namespace
CALLED = 7200  # where the outside tries to call in, on the host's address
_TOKEN = re.compile(rb"~([a-z]+)\.([a-z0-9-]+)~")
_ETH_P_ALL = 3
_SCTP, _DCCP = (socket.SOCK_STREAM, 132), (6, 33)
_SOL_PACKET, _PACKET_STATISTICS = 263, 6


def token(phase: str, attack: str) -> str:
    return f"~{phase}.{attack}~"


def _started(target: Callable[..., None], *arguments: socket.socket) -> None:
    threading.Thread(target=target, args=arguments, daemon=True).start()


def _transport(kind: int, protocol: int) -> socket.socket | None:
    """A listener of a transport that is not TCP, or None where the kernel has no such thing."""
    try:
        listener = socket.socket(socket.AF_INET6, kind, protocol)
    except OSError:
        return None
    listener.bind(("::", PORT))
    listener.listen(64)
    return listener


class Outside:
    """Up until close(). named: paths of unix sockets on the host, as a daemon has them; abstract: the name of another, without its NUL."""

    def __init__(self, internet: Internet) -> None:
        self._namespace, self._nginx = internet.namespace, internet.nginx
        self._heard: set[tuple[str, str]] = set()
        self._numbers = itertools.count(1)
        self._closing = threading.Event()
        self.addresses, self.host = internet.namespace.address(), internet.namespace.host
        self._tap = self._namespace.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)))
        self._tap.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
        self._directory = Path(tempfile.mkdtemp(prefix="stockade-outside-", dir="/run"))
        self._directory.chmod(0o755)
        self.abstract = f"stockade-outside-{os.getpid()}"
        self.named = {name: str(self._directory / name) for name in ("docker.sock", "bus", "agent")}
        listeners = [self._namespace.listen("::", PORT), *(self._unix(path) for path in ("\0" + self.abstract, *self.named.values()))]
        listeners += filter(None, (self._namespace.inside(functools.partial(_transport, *kind)) for kind in (_SCTP, _DCCP)))
        datagrams = self._namespace.listen("::", PORT, socket.SOCK_DGRAM)
        _started(self._hear, self._tap)
        _started(self._datagrams, datagrams)
        _started(self._call_in)
        for listener in listeners:
            _started(self._accept, listener)

    def _unix(self, path: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        if not path.startswith("\0"):
            Path(path).chmod(0o777)
        listener.listen(64)
        return listener

    def heard(self, phase: str, attack: str) -> bool:
        """Whether anything of this attack arrived, also inside TLS. Call settle() first: frames are read by a thread."""
        within = token(phase, attack)
        return (phase, attack) in self._heard or any(within in request["path"] for request in self._nginx.requests())

    def settle(self) -> None:
        """Wait until every frame that arrived before now was read. Raises AssertionError when the ear lost one: then nothing is proved."""
        mark = f"{next(self._numbers)}"
        deadline = time.monotonic() + 20 * PATIENCE
        while ("settle", mark) not in self._heard:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(token("settle", mark).encode(), (self.addresses.v4, PORT))
            assert time.monotonic() < deadline, "the ear on the wire hears nothing"
            time.sleep(0.02)
        _, dropped = struct.unpack("II", self._tap.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert not dropped, f"the ear on the wire lost {dropped} frames"

    def _take(self, data: bytes) -> None:
        self._heard.update((phase.decode(), attack.decode()) for phase, attack in _TOKEN.findall(data))

    def _hear(self, tap: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self._closing.is_set():
                self._take(tap.recv(1 << 17))

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                _started(self._stream, listener.accept()[0])

    def _stream(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self._take(data)
                connection.sendall(b"heard\n")

    def _datagrams(self, datagrams: socket.socket) -> None:
        while True:
            data, peer = datagrams.recvfrom(65536)
            self._take(data)
            datagrams.sendto(b"heard\n", peer)

    def _call_in(self) -> None:
        """Connects from outside to CALLED on the host, over and over: whoever listens there may say its token."""
        with open(f"/run/netns/{self._namespace.name}") as namespace:  # noqa: PTH123 (a descriptor)
            os.setns(namespace.fileno(), os.CLONE_NEWNET)
        while not self._closing.wait(0.05):
            with contextlib.suppress(OSError), socket.create_connection((self.host.v4, CALLED), 1) as caller:
                self._take(caller.recv(100))

    def close(self) -> None:
        self._closing.set()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
