"""Runs inside, one process for as long as it takes: does what the test writes into files `do-N`, and puts the outcome into `done-N`.

A line is `GET URL`, `hold HOST` (a request on a connection that stays open), `again` (the next one on it, and it is never reopened),
`run PROGRAM ARGUMENT…`, `start PROGRAM ARGUMENT…` (and not wait for it) or `exit STATUS`.
"""

import http.client
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

held: list[http.client.HTTPSConnection] = []


def ask(connection: http.client.HTTPSConnection) -> str:
    connection.request("GET", "/obeys")
    answer = connection.getresponse()
    answer.read()
    return str(answer.status)


def obey(word: str, *rest: str) -> str:
    try:
        if word == "GET":
            return str(urllib.request.urlopen(rest[0], timeout=20).status)
        if word == "hold":
            held.append(http.client.HTTPSConnection(rest[0], timeout=10))
            held[-1].connect()
            held[-1].auto_open = 0
            return ask(held[-1])
        if word == "again":
            return ask(held[-1])
        if word == "start":
            return str(subprocess.Popen(rest).pid)
        if word == "run":
            return str(subprocess.run(rest).returncode)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except (OSError, http.client.HTTPException) as error:
        return f"failed {error!r}"
    sys.exit(int(rest[0]))


number = 0
while True:
    order = pathlib.Path(f"do-{number}")
    if not order.exists():
        time.sleep(0.02)
        continue
    part = pathlib.Path(f"done-{number}.part")
    part.write_text(obey(*order.read_text().split()))
    part.rename(f"done-{number}")
    number += 1
