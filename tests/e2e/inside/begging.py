"""Runs inside: performs what the test writes into files `do-N`, one request each, and puts the outcome into `done-N`.

A line is `METHOD URL`, or `parallel N METHOD URL`. The outcome is a JSON list of [status, body] or [name of the failure, its words].
"""

import concurrent.futures
import json
import pathlib
import sys
import time
import urllib.error
import urllib.request


def fetch(method: str, url: str) -> list[object]:
    body = b"x" if method in ("POST", "PUT") else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), timeout=20) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]
    except OSError as error:
        return [type(error).__name__, str(error)]


number = 0
while not pathlib.Path("stop").exists():
    order = pathlib.Path(f"do-{number}")
    if not order.exists():
        time.sleep(0.02)
        continue
    words = order.read_text().split()
    count = int(words[1]) if words[0] == "parallel" else 1
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        outcomes = list(pool.map(fetch, [words[-2]] * count, [words[-1]] * count))
    part = pathlib.Path(f"done-{number}.part")
    part.write_text(json.dumps(outcomes))
    part.rename(f"done-{number}")
    number += 1
sys.exit(0)
