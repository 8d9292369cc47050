"""Runs inside: one HTTPS connection to HOST, a request on it for every file `go-N` that appears here; each answer goes to `answer-N`.

The connection is never reopened: when it is cut, that is the answer.
"""

import http.client
import pathlib
import sys
import time

host, count = sys.argv[1], int(sys.argv[2])
connection = http.client.HTTPSConnection(host, timeout=10)
connection.connect()
connection.auto_open = 0
for number in range(count):
    while not pathlib.Path(f"go-{number}").exists():
        time.sleep(0.02)
    try:
        connection.request("GET", f"/keep/{number}")
        response = connection.getresponse()
        answer = f"{response.status} {response.read().decode()}"
    except (OSError, http.client.HTTPException) as error:
        answer = f"cut {error!r}"
    part = pathlib.Path(f"answer-{number}.part")
    part.write_text(answer)
    part.rename(f"answer-{number}")
