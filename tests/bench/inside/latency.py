"""TCP connect() to HOST:PORT, COUNT times, resolved once; prints the median and the 99th percentile in microseconds."""

import socket
import sys
import time

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
times = []
for _ in range(count):
    with socket.socket() as sock:
        start = time.perf_counter()
        sock.connect(address)
        times.append((time.perf_counter() - start) * 1e6)
times.sort()
print(times[count // 2], times[count * 99 // 100])
