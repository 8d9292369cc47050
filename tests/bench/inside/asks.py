"""Asks a model, one prompt after the other, on one connection: p50 and p99 in milliseconds. The first tenth is not counted.

asks.py HOST FILE: a JSON list of prompts, each of which nobody has seen before.
"""

import http.client
import json
import ssl
import sys
import time
from pathlib import Path

host, prompts = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(), timeout=60)
times = []
for prompt in prompts:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]})
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", "Authorization": "Bearer x"})
    answer = connection.getresponse()
    answer.read()
    times.append((time.perf_counter() - began) * 1000)
    if answer.status != 200:
        sys.exit(f"{answer.status}: {prompt[:80]}")
counted = sorted(times[len(times) // 10 :])
print(counted[len(counted) // 2], counted[int(len(counted) * 0.99)])
