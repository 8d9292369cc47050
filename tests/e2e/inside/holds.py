"""Runs inside: holds.py HOST socket | body. Opens a WebSocket, or sends the first half of a body; holds.log says `up`, `cut` when it ends.

From when the file `more` is there it says a word a moment.
"""

import base64
import os
import socket
import ssl
import struct
import sys
import time
from pathlib import Path

host, way = sys.argv[1:]
held = ssl.create_default_context().wrap_socket(socket.create_connection((host, 443)), server_hostname=host)


def say(word: bytes) -> None:
    if way == "socket":
        mask = os.urandom(4)
        held.sendall(struct.pack("!BB", 0x81, 0x80 | len(word)) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(word)))
    else:
        held.sendall(b"%x\r\n%s\r\n" % (len(word), word))


if way == "socket":
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ["GET /ws HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
else:
    lines = ["PUT /v1/files HTTP/1.1", "Content-Type: text/plain", "Transfer-Encoding: chunked"]
held.sendall("\r\n".join([*lines, f"Host: {host}", "", ""]).encode())
if way == "socket":
    assert b" 101 " in held.recv(4096)
say(b"before")
if way == "socket":
    assert b"before" in held.recv(4096)
with Path("holds.log").open("w", buffering=1) as log:
    log.write("up\n")
    try:
        while not Path("more").exists():
            time.sleep(0.02)
        while True:
            say(b"after")
            time.sleep(0.05)
    except OSError as error:
        log.write(f"{type(error).__name__}\n")
    log.write("cut\n")
