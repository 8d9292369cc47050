"""Runs inside: upgrades wss://HOST/PATH by hand (RFC 6455), sends each word as a text frame, prints each echo."""

import base64
import os
import socket
import ssl
import struct
import sys

host, path, words = sys.argv[1], sys.argv[2], sys.argv[3:]
sock = ssl.create_default_context().wrap_socket(socket.create_connection((host, 443), timeout=10), server_hostname=host)
key = base64.b64encode(os.urandom(16)).decode()
sock.sendall(
    f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
)
stream = sock.makefile("rb")
status = stream.readline().split()[1].decode()
while stream.readline().strip():
    pass
print(status)
if status == "101":
    for word in words:
        mask, text = os.urandom(4), word.encode()
        sock.sendall(struct.pack("!BB", 0x81, 0x80 | len(text)) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text)))
        _, length = stream.read(2)
        print(stream.read(length).decode())
