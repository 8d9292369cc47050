"""Runs inside: sends ask-N.json when it is there, for N = 1, 2, …, and leaves what came back in answer-N.json; ends when `done` is there.

A request: {"url", "method", "headers", "body"}. An answer: {"status", "body", "first": the first piece of the body that came}.
"""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path


def send(asked):
    body = asked["body"].encode() if "body" in asked else None
    request = urllib.request.Request(asked["url"], data=body, headers=asked.get("headers", {}), method=asked.get("method"))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            first = answer.read1(65536)
            Path("began").write_bytes(first)
            return {"status": answer.status, "first": first.decode(), "body": (first + answer.read()).decode()}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": error.read().decode()}
    except OSError as error:
        return {"status": None, "body": repr(error)}


number = 1
while not Path("done").exists():
    try:
        asked = json.loads(Path(f"ask-{number}.json").read_text())
    except FileNotFoundError:
        time.sleep(0.01)
        continue
    Path("began").unlink(missing_ok=True)
    Path("answer.part").write_text(json.dumps(send(asked)))
    Path("answer.part").rename(f"answer-{number}.json")
    number += 1
