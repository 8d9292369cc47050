"""Runs inside: COUNT connects to HOST:PORT through getaddrinfo, v4 and v6 in turn. Prints how many were made."""

import socket
import sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = 0
for number in range(count):
    family = (socket.AF_INET, socket.AF_INET6)[number % 2]
    kind, address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][0:5:4]
    with socket.socket(kind, socket.SOCK_STREAM) as sock:
        sock.connect(address)
        made += 1
print(made)
