"""Runs inside: requests to HOST without end, half on one kept connection and half on new ones. Each outcome is a line in hammer.log."""

import http.client
import sys
import time

host = sys.argv[1]
kept = http.client.HTTPSConnection(host, timeout=5)
with open("hammer.log", "w", buffering=1) as log:  # noqa: PTH123 (runs on any Python 3)
    number = 0
    while True:
        number += 1
        new = http.client.HTTPSConnection(host, timeout=5)
        for name, connection in (("kept", kept), ("new", new)):
            try:
                connection.request("GET", f"/hammer/{name}/{number}")
                response = connection.getresponse()
                response.read()
                log.write(f"{name} {number} {response.status}\n")
            except (OSError, http.client.HTTPException) as error:
                log.write(f"{name} {number} failed {error!r}\n")
                time.sleep(0.02)
        new.close()
