"""Sockets that another one connected."""

import contextlib
import os
import socket
import subprocess

from driver import attack

from sockets.ways import exchange


def allowed_connection(facts):
    sock = socket.create_connection((facts["echo"], 80), 5 * facts["patience"])
    sock.settimeout(None)
    os.set_inheritable(sock.fileno(), True)
    return sock


def request(facts, token):
    return b"GET /open/%s HTTP/1.0\r\nHost: %s\r\n\r\n" % (token, facts["echo"].encode())


@attack("inherited-socket")
def _(facts, token):
    """Connected by a binary with a rule, written to by one without, after fork and exec."""
    with allowed_connection(facts) as sock:
        words = [facts["other"], "-c", f'printf "$1" >&{sock.fileno()}; head -n1 <&{sock.fileno()}', "sh", request(facts, token).decode()]
        done = subprocess.run(words, capture_output=True, text=True, pass_fds=[sock.fileno()], timeout=10 * facts["patience"])
        return "out" if " 200 " in done.stdout else done.stdout.strip() or done.stderr.strip() or "closed"


@attack("handed-socket")
def _(facts, token):
    """Over SCM_RIGHTS, to a program that has no rule."""
    ours, theirs = socket.socketpair()
    words = [facts["speaker"], "speak", "-", "0", request(facts, token).decode()]
    with subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, text=True) as speaker, allowed_connection(facts) as sock:
        socket.send_fds(ours, [b"1"], [sock.fileno()])
        answer = speaker.communicate(timeout=10 * facts["patience"])[0].splitlines()
    return "out" if answer and " 200 " in answer[0] else answer[0] if answer else "closed"


@attack("descriptor-left-open")
def _(facts, token):
    """What the caller of the sandbox had open, found by number."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 (no Path)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as sock:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.settimeout(1)
                return exchange(sock, token)
    return "none open"
