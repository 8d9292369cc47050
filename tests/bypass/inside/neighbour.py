"""Runs inside the first of two sandboxes: has one of everything that a neighbour could be after, says where, and waits for `done`.

neighbour.py HOST: what it learnt and opened goes into have.json, what anybody said to it into heard.log.
"""

import json
import os
import pathlib
import socket
import sys
import threading
import time

host = sys.argv[1]
address = socket.getaddrinfo(host, 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
pathlib.Path("/tmp/secret").write_text("mine")
pathlib.Path("/dev/shm/secret").write_text("mine")
heard = open("heard.log", "a", buffering=1)  # noqa: SIM115, PTH123


def listening(family, where):
    listener = socket.socket(family)
    listener.bind(where)
    listener.listen()

    def serve():
        while True:
            caller, _ = listener.accept()
            heard.write(f"{where!r} {caller.recv(100)!r}\n")

    threading.Thread(target=serve, daemon=True).start()


listening(socket.AF_UNIX, "/tmp/neighbour.sock")
listening(socket.AF_UNIX, "\0stockade-neighbour")
listening(socket.AF_INET, ("127.0.0.1", 8123))
listening(socket.AF_INET6, ("::1", 8123))
bundle = pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_text()
have = {"pid": os.getpid(), "synthetic": address, "bundle": bundle}
pathlib.Path("have.part").write_text(json.dumps(have))
pathlib.Path("have.part").rename("have.json")
while not pathlib.Path("done").exists():
    time.sleep(0.02)
