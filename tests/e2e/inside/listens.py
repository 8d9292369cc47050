"""A server on one port: what it is told as `GET /…` it answers as HTTP, anything else it sends back until the end.

Writes into listens.log who connected and what arrived, and ends when `stop` is there.
"""

import contextlib
import pathlib
import socket
import sys
import threading
import time

FAMILY = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
LOG = pathlib.Path("listens.log")


def say(line: str) -> None:
    with LOG.open("a") as log:
        log.write(line + "\n")


def serve(connection: socket.socket, peer: str) -> None:
    say(f"connected {peer}")
    heard = 0
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            heard += len(data)
            if data.startswith(b"GET /"):
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\ninside")
                break
            connection.sendall(data)
    say(f"heard {heard}")


listener = socket.socket(FAMILY)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen()
say("listening")


def accept() -> None:
    while True:
        connection, peer = listener.accept()
        threading.Thread(target=serve, args=(connection, peer[0]), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
while not pathlib.Path("stop").exists():
    time.sleep(0.02)
