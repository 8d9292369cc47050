"""The nursery's own process: forks launchers, workers, and whoever opens the agent's sockets in a sandbox that runs.

A sandbox's init is what is left of a launcher, and stays as long as the sandbox: so this process imports what a launcher needs, no more.
Started by nursery.py as `-m stockade.daemon.born CHANNEL CGROUP USER`; ends with the daemon.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from stockade.kernel.abi import Network
from stockade.sandbox import launch, libc, loopback
from stockade.sandbox.cgroup import Cgroup

QUESTION = 4096  # octets of the longest
_STDIO = 3


def main(channel: socket.socket, listeners: Path, user: int) -> None:
    """channel: to the daemon. listeners: the cgroup in which sockets answer ORIGIN. user: of a proxy worker."""
    os.closerange(3, channel.fileno())
    os.closerange(channel.fileno() + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    libc.set_title("stockade-nursery")
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    loopback.messages(Network())  # imports what spells them, and knows them for all that are born
    gc.disable()
    gc.freeze()  # what is forked touches, and so copies, none of it
    born = os.open(listeners, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, QUESTION, _STDIO)
        if not data:
            return
        try:
            _fork(channel, pickle.loads(data), descriptors, user, born)  # noqa: S301 - the daemon's, which started this process
        except Exception as error:
            channel.send(str(error).encode()[:QUESTION])
        for descriptor in descriptors:
            os.close(descriptor)


def _fork(channel: socket.socket, question: tuple[object, ...], descriptors: list[int], user: int, born: int) -> None:
    """Answer with the child's PID, and the daemon's end of a channel to it."""
    life: Callable[[socket.socket], NoReturn]
    cgroup: int | None = born
    match question:
        case ("launcher",):
            stdio = (descriptors[0], descriptors[1], descriptors[2])

            def life(theirs: socket.socket) -> NoReturn:
                launch.serve(theirs, stdio)
        case ("worker",):
            cgroup = None

            def life(theirs: socket.socket) -> NoReturn:
                _work(theirs, user)
        case ("sockets", Network() as network, Cgroup() | None as listeners):

            def life(theirs: socket.socket) -> NoReturn:
                launch.listen_inside(theirs, descriptors[0], network, listeners)
        case _:
            raise ValueError(f"not a question: {question!r}")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        pid = libc.fork_beside(cgroup)
        if pid == 0:
            try:
                channel.close()
                ours.close()
                life(theirs)
            finally:
                os._exit(1)
        socket.send_fds(channel, [str(pid).encode()], [ours.fileno()])


def _work(channel: socket.socket, user: int) -> NoReturn:
    gc.enable()
    from stockade.proxy import live
    from stockade.sandbox import seccomp

    live(channel, user, user, seccomp.confinement(seccomp.WORKER))


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]))
