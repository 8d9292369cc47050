"""Runs inside: reads server-sent events from https://HOST/sse and prints after how many seconds each came."""

import http.client
import sys
import time

connection = http.client.HTTPSConnection(sys.argv[1], timeout=20)
start = time.monotonic()
connection.request("GET", "/sse")
response = connection.getresponse()
for line in response:
    if line.startswith(b"data:"):
        print(f"{time.monotonic() - start:.2f}")
