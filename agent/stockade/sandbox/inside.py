"""Sockets of the agent's own in a sandbox's network namespace, made after the launcher is gone: what an inbound connection goes on through.

A socket stays in the namespace and the cgroup that it was made in (network_namespaces(7), sock_cgroup_data in the kernel): these are on the
sandbox's `lo`, and under none of the programs that govern the sandbox, whose processes are not who connects here. Dials loopback alone, and
owns no listener.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from stockade.sandbox import libc, listener

_SIOCGSKNS = 0x894C  # include/uapi/linux/sockios.h: a descriptor of the namespace that a socket is in
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class Inside:
    """One sandbox's: the namespace that a socket is in. On one thread, which enters it for good when it is first asked for.

    The process itself stays where it is. sock: another's, who keeps it open for as long as this is asked.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._entered = sock, False
        self._thread = ThreadPoolExecutor(1, "inside")

    def _do[T](self, work: Callable[..., T], argument: object) -> asyncio.Future[T]:
        def inside() -> T:
            if not self._entered:
                _enter(self._sock)
                self._entered = True
            return work(argument)

        return asyncio.wrap_future(self._thread.submit(inside))

    async def dial(self, port: int, seconds: float) -> socket.socket:
        """Connected to whoever listens on a port of the sandbox's loopback, IPv4 first. Raises OSError when nobody answers."""
        failure: OSError = ConnectionRefusedError()
        for family, address in _LOOPBACK:
            sock = await self._do(_made, family)
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.get_running_loop().sock_connect(sock, (address, port))
                return sock
            except OSError as error:  # asyncio.timeout raises TimeoutError, which is one
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
        raise failure

    async def listening(self, port: int) -> int | None:
        """The inode of the socket that `dial` would reach. Raises OSError."""
        return await self._do(listener.socket_of, port)

    def close(self) -> None:
        """May be called twice."""
        self._thread.shutdown()


def _enter(sock: socket.socket) -> None:
    namespace = fcntl.ioctl(sock, _SIOCGSKNS)
    try:
        os.setns(namespace, libc.CLONE_NEWNET)
    finally:
        os.close(namespace)


def _made(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setblocking(False)
    return sock
