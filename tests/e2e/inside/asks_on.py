"""Runs inside: sends the body in ask-N to HOST over one connection that stays open, for N = 1, 2, …; answer-N has status and body."""

import http.client
import time
from pathlib import Path
from sys import argv

connection = http.client.HTTPSConnection(argv[1], timeout=60)
connection.connect()
connection.auto_open = 0  # the answer after a reload is one on the connection from before it
number = 1
while True:
    asked = Path(f"ask-{number}")
    if not asked.exists():
        time.sleep(0.02)
        continue
    connection.request("POST", "/v1/chat/completions", asked.read_bytes(), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    Path("part").write_text(f"{answer.status} {answer.read().decode()}")
    Path("part").rename(f"answer-{number}")
    number += 1
