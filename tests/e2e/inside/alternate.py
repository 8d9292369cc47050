"""Runs inside, until a file `stop` appears: requests that the policy allows in turns, on one kept connection and on new ones.

usage: alternate.py HOST OTHER. Paths begin with /even/ or /odd/; OTHER is a host that comes and goes. Each outcome is a line in
alternate.log: the path, and the status or how it failed.
"""

import http.client
import pathlib
import sys

host, other = sys.argv[1], sys.argv[2]
kept = http.client.HTTPSConnection(host, timeout=5)
stop = pathlib.Path("stop")
number = 0
with open("alternate.log", "w", buffering=1) as log:  # noqa: PTH123 (runs on any Python 3)
    while not stop.exists():
        number += 1
        fresh, foreign = http.client.HTTPSConnection(host, timeout=5), http.client.HTTPSConnection(other, timeout=5)
        for name, connection in (("kept", kept), ("fresh", fresh), ("foreign", foreign)):
            for side in ("even", "odd"):
                path = f"/{side}/{name}/{number}"
                try:
                    connection.request("GET", path)
                    response = connection.getresponse()
                    response.read()
                    log.write(f"{path} {response.status}\n")
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    log.write(f"{path} {type(error).__name__}\n")
        fresh.close()
        foreign.close()
