"""Unix sockets of the host."""

import pathlib
import socket

from driver import attack

from sockets.ways import exchange


def unix(path, token):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        sock.connect(path)
        return exchange(sock, token)


@attack("unix-abstract")
def _(facts, token):
    return unix("\0" + facts["abstract"], token)


@attack("unix-named")
def _(facts, token):
    return unix(facts["named"]["docker.sock"], token)


@attack("unix-dbus")
def _(facts, token):
    return unix(facts["named"]["bus"], token)


@attack("unix-ssh-agent")
def _(facts, token):
    return unix(facts["named"]["agent"], token)


@attack("unix-symlink")
def _(facts, token):
    link = pathlib.Path(f"link-{facts['phase']}")
    link.symlink_to(facts["named"]["docker.sock"])
    return unix(str(link), token)


@attack("unix-relative")
def _(facts, token):
    return unix("../" * 12 + facts["named"]["docker.sock"].lstrip("/"), token)
