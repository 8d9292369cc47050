"""Listening sockets of a sandbox that the agent keeps for the next proxy worker, should this one die: connections wait in them meanwhile.

They lie in a message that is never taken, only looked at, which makes a copy each time (unix(7), MSG_PEEK): all of them cost the agent one
descriptor. What the kernel holds for a process it lets go of with it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from stockade.descriptors import receive


class Parked:
    """sockets: closed here, also when this fails. Raises OSError."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._count = len(sockets)
        self._kept, put = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with put:
                socket.send_fds(put, [b"1"], [sock.fileno() for sock in sockets])
        except BaseException:
            self._kept.close()
            raise
        finally:
            for sock in sockets:
                sock.close()

    def copies(self) -> list[socket.socket]:
        """The same sockets, under descriptors that are the caller's. Raises OSError, and none is then left open."""
        _, received = receive(self._kept, 1, self._count, socket.MSG_PEEK)
        if len(received) != self._count:  # no descriptor was left for them
            for descriptor in received:
                os.close(descriptor)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return [socket.socket(fileno=descriptor) for descriptor in received]

    def close(self) -> None:
        """May be called twice."""
        self._kept.close()
