"""Descriptors that another process hands over, received so that no program started here inherits them.

socket.recv_fds cannot be used for it: it takes flags and does not pass them on (CPython 3.13).
"""

from __future__ import annotations

import array
import socket


def receive(sock: socket.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """At most `size` octets and `most` descriptors, which are the caller's to close; the kernel closes what is beyond. Raises OSError."""
    received = array.array("i")
    data, told, _, _ = sock.recvmsg(size, socket.CMSG_LEN(most * received.itemsize), flags | socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in told:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    return data, list(received)
