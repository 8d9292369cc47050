"""io_uring, races, lengths: the calls that libc and Python do not make."""

import socket
import subprocess

from driver import attack

from sockets.ways import LIBC, STREAM, check, exchange, sockaddr4, stream


def program(facts, mode, token):
    words = [facts["attack"], mode, facts["v4"], str(facts["port"]), token.decode()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=15 * facts["patience"])
    return done.stdout.strip() or f"ended with {done.returncode}"


for mode in ("uring-connect", "uring-send", "race-sockaddr", "race-msghdr", "storm", "leaderless"):
    attack(mode)(lambda facts, token, mode=mode: program(facts, mode, token))


@attack("exec-then-connect")
def _(facts, token):
    """A hundred programs whose first act is a connect."""
    said = {program(facts, "connect", token) for _ in range(100)}
    return "out" if "out" in said else "/".join(sorted(said))


def connect_raw(name, length, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        check(LIBC.connect(sock.fileno(), name, length))
        sock.settimeout(1)
        return exchange(sock, token)


@attack("length-zero")
def _(facts, token):
    return connect_raw(sockaddr4(facts["v4"], facts["port"]), 0, token)


@attack("length-short")
def _(facts, token):
    return connect_raw(sockaddr4(facts["v4"], facts["port"]), 8, token)


@attack("length-long")
def _(facts, token):
    return connect_raw(sockaddr4(facts["v4"], facts["port"]).ljust(128, b"\0"), 128, token)


@attack("length-huge")
def _(facts, token):
    return connect_raw(sockaddr4(facts["v4"], facts["port"]).ljust(4096, b"\0"), 4096, token)


@attack("port-zero")
def _(facts, token):
    return stream(facts["v4"], 0, token)
