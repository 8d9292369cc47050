"""What comes with descriptors, over real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from stockade.descriptors import receive


def test_what_is_received_no_program_inherits() -> None:
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    with ours, theirs:
        socket.send_fds(theirs, [b"two"], [reading, writing])
        data, received = receive(ours, 64, 2)
        assert data == b"two"
        assert [os.get_inheritable(descriptor) for descriptor in received] == [False, False]
        os.write(received[1], b"through")
        assert os.read(reading, 64) == b"through"
        theirs.send(b"none")
        assert receive(ours, 64, 2) == (b"none", [])
    for descriptor in (*received, reading, writing):
        os.close(descriptor)


def test_no_more_than_were_asked_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = len(list(Path("/proc/self/fd").iterdir()))
        socket.send_fds(theirs, [b"x"], [0, 1, 2])
        data, received = receive(ours, 64, 1)
        assert (data, len(received)) == (b"x", 1)
        os.close(received[0])
        assert len(list(Path("/proc/self/fd").iterdir())) == before
