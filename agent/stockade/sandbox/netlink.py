"""What the kernel lists over netlink: messages of one dump, one after the other (netlink(7))."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
REQUEST, ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3


def dump(kernel: socket.socket, kind: int, said: bytes) -> Iterator[bytes]:
    """The body of each message of the answer. Raises OSError."""
    kernel.send(HEADER.pack(HEADER.size + len(said), kind, REQUEST | _DUMP, 1, 0) + said)
    while True:
        answer = kernel.recv(1 << 20)
        while answer:
            length, message, *_ = HEADER.unpack_from(answer)
            if message == _DONE:
                return
            if message == _ERROR:
                error = -struct.unpack_from("=i", answer, HEADER.size)[0]
                raise OSError(error, os.strerror(error))
            yield answer[HEADER.size : length]
            answer = answer[length + -length % 4 :]


def one(kernel: socket.socket, kind: int, said: bytes) -> bytes:
    """The body of an answer that is one message. Raises OSError."""
    kernel.send(HEADER.pack(HEADER.size + len(said), kind, REQUEST, 1, 0) + said)
    answer = kernel.recv(65536)
    _, message, *_ = HEADER.unpack_from(answer)
    if message == _ERROR:
        error = -struct.unpack_from("=i", answer, HEADER.size)[0]
        raise OSError(error, os.strerror(error))
    return answer[HEADER.size :]


def ask(kernel: socket.socket, kind: int, flags: int, said: bytes) -> None:
    """Have something done. Raises OSError when it is refused."""
    kernel.send(HEADER.pack(HEADER.size + len(said), kind, REQUEST | ACK | flags, 1, 0) + said)
    (error,) = struct.unpack_from("=i", kernel.recv(65536), HEADER.size)
    if error:
        raise OSError(-error, os.strerror(-error))
