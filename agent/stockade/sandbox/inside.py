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
from concurrent.futures import ThreadPoolExecutor

from stockade.sandbox import libc, listener

_SIOCGSKNS = 0x894C  # include/uapi/linux/sockios.h: a descriptor of the namespace that a socket is in
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class Inside:
    """One sandbox's. On one thread, which entered the namespace for good: the process itself stays where it is."""

    def __init__(self, namespace: int) -> None:
        self._thread = ThreadPoolExecutor(1, "inside", initializer=os.setns, initargs=(namespace, libc.CLONE_NEWNET))
        self._namespace = namespace

    @classmethod
    def of(cls, sock: socket.socket) -> Inside:
        """The namespace that this socket is in. Raises OSError."""
        return cls(fcntl.ioctl(sock, _SIOCGSKNS))

    async def dial(self, port: int, seconds: float) -> socket.socket:
        """Connected to whoever listens on a port of the sandbox's loopback, IPv4 first. Raises OSError when nobody answers."""
        failure: OSError = ConnectionRefusedError()
        for family, address in _LOOPBACK:
            sock = await asyncio.wrap_future(self._thread.submit(_made, family))
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
        return await asyncio.wrap_future(self._thread.submit(listener.socket_of, port))

    def close(self) -> None:
        """May be called twice."""
        self._thread.shutdown()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1


def _made(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setblocking(False)
    return sock
