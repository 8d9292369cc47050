"""Who listens tries to make more of a connection that came in: a proxy that dials for it, and a socket that dials anew."""

import ctypes
import pathlib
import socket
import struct
import sys

host, port = sys.argv[2], int(sys.argv[3])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
pathlib.Path("listens.log").write_text("listening\n")
connection, _ = listener.accept()
for said in (
    f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode(),
    b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(host) + struct.pack("!H", port),
    b"\x04\x01" + struct.pack("!H", port) + socket.inet_aton(host) + b"\0",
):
    connection.sendall(said)
connection.sendall(b"END")
assert connection.recv(1) == b"!", "the peer has heard it all"
try:
    connection.connect((host, port))
    print("connect done")
except OSError as error:
    print("connect", error.errno)
libc = ctypes.CDLL(None, use_errno=True)
print("dissolve", libc.connect(connection.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16))
try:
    connection.connect((host, port))
    print("again done")
except OSError as error:
    print("again", error.errno)
