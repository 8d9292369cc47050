"""Runs inside and outside alike: what SECURITY.md says is not held."""

import socket

from driver import attack
from wire import hello_with_ech, say


@attack("unix-shown")
def _(facts, token):
    """A daemon of the host that listens in the workdir."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("daemon.sock")
        sock.sendall(b"say " + token)
        return "out" if sock.recv(10) else "closed"


@attack("passed-in")
def _(facts, token):
    """The same daemon hands out a connection of its own."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("daemon.sock")
        sock.sendall(b"give")
        _, [descriptor], _, _ = socket.recv_fds(sock, 10, 1)
        with socket.socket(fileno=descriptor) as given:
            given.sendall(token)
            return "out" if given.recv(10) else "closed"


@attack("ech-inner")
def _(facts, token):
    """The encrypted inner name carries the token; the outer one is the allowed host's."""
    return say(facts, hello_with_ech(facts["passthrough"], token), 443, "passthrough")
