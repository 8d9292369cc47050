"""Runs inside: asks for every name that is given on stdin's file `names`, says so, and waits for `stop`."""

import pathlib
import socket
import time

found = 0
for name in pathlib.Path("names").read_text().split():
    try:
        socket.getaddrinfo(name, 443)
        found += 1
    except OSError:
        pass
pathlib.Path("asked").write_text(str(found))
while not pathlib.Path("stop").exists():
    time.sleep(0.05)
