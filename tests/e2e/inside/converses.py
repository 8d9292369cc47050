"""Connects to HOST PORT, says what it hears into converses.log, and sends back nothing but one line at a time: what `say` holds, whenever
that is there. Ends when the connection does, or when `hang-up` is there.
"""

import pathlib
import socket
import sys
import time

LOG, SAY = pathlib.Path("converses.log"), pathlib.Path("say")


def log(line: str) -> None:
    with LOG.open("a") as file:
        file.write(line + "\n")


try:
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
except OSError as error:
    log(f"no connection: {error!r}")
    sys.exit(1)
log("connected")
connection.settimeout(0.02)
while not pathlib.Path("hang-up").exists():
    if SAY.exists():
        said = SAY.read_bytes()
        SAY.unlink()
        connection.sendall(said)
    try:
        heard = connection.recv(65536)
    except TimeoutError:
        time.sleep(0.01)
        continue
    except OSError as error:
        log(f"cut: {type(error).__name__}")
        sys.exit(2)
    if not heard:
        log("ended")
        sys.exit(0)
    log(f"heard {heard.decode()}")
