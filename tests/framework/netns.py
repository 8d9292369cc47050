"""A network namespace of the tests' own, joined to the host by a veth pair: where the servers live that sandboxes may or may not reach."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_NAME = re.compile(r"stocktest-(\d+)-(\d+)")
_NETNS = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The two addresses of one server."""

    v4: str
    v6: str


class Namespace:
    """Servers on 10.213.N.2 onwards and fd5c:213:N::2 onwards, the host on .1; private ranges, so policies must name their hosts exactly.

    The link's name is the lock on N, so that suites may run beside each other. The pid is in the namespace's name: whoever makes the next
    one removes those of the dead.
    """

    def __init__(self) -> None:
        _remove_orphans()
        self._link = ""
        for subnet in range(1, 250):
            link = f"stocktest{subnet}"
            if _ip("link", "add", link, "type", "veth", "peer", "name", f"{link}p", check=False):
                self._subnet, self._link = subnet, link
                break
        if not self._link:
            raise RuntimeError("no free subnet among 10.213.1-249.0/24, or no right to add a link")
        self.name = f"stocktest-{os.getpid()}-{self._subnet}"
        self._next = 1
        self._children: list[subprocess.Popen[bytes]] = []
        self.host = self._take()
        try:
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "set", f"{self._link}p", "netns", self.name)
        _ip("address", "add", f"{self.host.v4}/24", "dev", self._link)
        _ip("address", "add", f"{self.host.v6}/64", "dev", self._link, "nodad")
        _ip("link", "set", self._link, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "set", f"{self._link}p", "up")

    def _take(self) -> Addresses:
        number, self._next = self._next, self._next + 1
        return Addresses(f"10.213.{self._subnet}.{number}", f"fd5c:213:{self._subnet:x}::{number:x}")

    def address(self) -> Addresses:
        """One more pair of addresses inside the namespace."""
        taken = self._take()
        _ip("-n", self.name, "address", "add", f"{taken.v4}/24", "dev", f"{self._link}p")
        _ip("-n", self.name, "address", "add", f"{taken.v6}/64", "dev", f"{self._link}p", "nodad")
        return taken

    @property
    def device(self) -> str:
        """The host's end of the link."""
        return self._link

    @property
    def link_local(self) -> str:
        """The address that the namespace's end of the link gave itself: fe80::/64."""
        said = subprocess.run(
            ["ip", "-n", self.name, "-6", "-o", "address", "show", "dev", f"{self._link}p", "scope", "link"],
            capture_output=True,
            text=True,
            check=True,
        )
        return said.stdout.split(" inet6 ")[1].split("/")[0]

    def spawn(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """A child process inside the namespace; killed by close()."""
        child = subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)
        self._children.append(child)
        return child

    def listen(self, address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A socket bound inside the namespace and served from the tests' own process (a socket stays where it was made)."""
        return self.inside(lambda: _bound(address, port, kind))

    def inside[T](self, make: Callable[[], T]) -> T:
        """What `make` returns when called in the namespace, on a thread of its own that ends with it."""
        made: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                with (_NETNS / self.name).open() as namespace:
                    os.setns(namespace.fileno(), os.CLONE_NEWNET)
                made.append(make())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def close(self) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        _ip("netns", "delete", self.name, check=False)
        _ip("link", "delete", self._link, check=False)  # it goes with the namespace, but only when the kernel comes round to it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((address, port))
    if kind is socket.SOCK_STREAM:
        bound.listen(1024)
    return bound


def _ip(*words: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.returncode == 0


def _remove_orphans() -> None:
    for path in _NETNS.glob("stocktest-*"):
        name = _NAME.fullmatch(path.name)
        if name and not Path("/proc", name[1]).exists():
            with contextlib.suppress(RuntimeError):  # another suite may be removing it too
                _ip("netns", "delete", path.name)
                _ip("link", "delete", f"stocktest{name[2]}", check=False)
