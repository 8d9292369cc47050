"""Runs inside: a connection of this program to HOST:PORT, on which sh then speaks. The first line of each answer is a line of stdout.

HOW: `inherit` (a child gets the descriptor), `exec` (the process that connected becomes sh), `pass` (one child hands it to another over a
unix socket), `own` (nobody else speaks: what must work), `mixed` (sh begins a
request, and this program goes on with another). ROUNDS: times, each on a connection of its own.
"""

import os
import socket
import subprocess
import sys

how, host, port, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
SPEAK = ["/bin/sh", "-c", "printf 'GET %s HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n' $0 $1 >&9 && read line <&9 && echo $line || echo cut"]


def dial():
    connection = socket.create_connection((host, port), timeout=10)
    connection.setblocking(True)  # a timeout would be O_NONBLOCK for everybody who holds it
    return connection


def ask(connection, path):
    """A request of this program's own; the first line of its answer."""
    try:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(1)
            if not more:
                return "cut"
            head += more
        sizes = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while sizes and sizes[0] > 0:
            sizes[0] -= len(connection.recv(sizes[0]))
        return head.split(b"\r\n")[0].decode()
    except OSError as error:
        return f"cut {error}"


def become(descriptor, path):
    os.dup2(descriptor, 9)
    os.execv(SPEAK[0], [*SPEAK, path, host])


def child(work, *arguments):
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
        finally:
            os._exit(0)
    return pid


def connect_and_become(path):
    become(dial().detach(), path)


def take_and_become(way, path):
    become(socket.recv_fds(way, 1, 1)[1][0], path)


def connect_and_give(way):
    socket.send_fds(way, [b"x"], [dial().detach()])


for number in range(rounds):
    foreign = f"/foreign/{how}/{number}"
    if how == "own":
        connection = dial()
        print(ask(connection, f"/own/{number}"), ask(connection, f"/own/{number}"), flush=True)
    elif how == "mixed":
        connection = dial()
        print(ask(connection, "/before"), flush=True)
        os.dup2(connection.fileno(), 9)
        subprocess.run(["/bin/sh", "-c", "printf '\\r\\n' >&9"], pass_fds=[9])  # an empty line before a request is no request
        print(ask(connection, f"/own/{number}"), flush=True)
    elif how == "inherit":
        connection = dial()
        print(ask(connection, f"/own/{number}"), flush=True)
        os.dup2(connection.fileno(), 9)
        subprocess.run([*SPEAK, foreign, host], pass_fds=[9])
        os.close(9)
    elif how == "exec":
        os.waitpid(child(connect_and_become, foreign), 0)
    elif how == "pass":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        taker = child(take_and_become, ours, foreign)
        giver = child(connect_and_give, theirs)
        os.waitpid(giver, 0)
        os.waitpid(taker, 0)
