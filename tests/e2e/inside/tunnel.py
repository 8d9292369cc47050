"""Runs inside: one TLS connection to HOST that is kept; tunnel.log says `up`, and `cut` when it ends."""

import socket
import ssl
import sys

context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # passthrough: the server's own certificate
with open("tunnel.log", "w", buffering=1) as log:  # noqa: PTH123 (runs on any Python 3)
    tunnel = context.wrap_socket(socket.create_connection((sys.argv[1], 443)), server_hostname=sys.argv[1])
    tunnel.sendall(f"GET /up HTTP/1.1\r\nHost: {sys.argv[1]}\r\n\r\n".encode())
    tunnel.recv(100)
    log.write("up\n")
    try:
        while tunnel.recv(65536):
            pass
    except OSError as error:
        log.write(f"{type(error).__name__}\n")
    log.write("cut\n")
