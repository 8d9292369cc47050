"""Runs inside: COUNT connections from THREADS threads, one HTTP request on each, over the given HOST:PORT in turn.

Every server answers with its own name and the path it was asked for. Prints the answers that are not the asker's own, and how many were.
"""

import itertools
import json
import queue
import socket
import sys
import threading

threads, count, targets = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
resolved = {}
for target in targets:
    host, port = target.split(":")
    for family in (socket.AF_INET, socket.AF_INET6):
        resolved[target, family] = socket.getaddrinfo(host, int(port), family, socket.SOCK_STREAM)[0][4]


def ask(number: int, target: str, family: int) -> str:
    host = target.split(":")[0]
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(60)
        sock.connect(resolved[target, family])
        sock.sendall(f"GET /{host}/{number} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := sock.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        return f"{target} /{number}: {answer[:300]!r}"
    start = body.index(b"{")  # the body may be chunked
    seen = json.loads(body[start : body.rindex(b"}") + 1])
    if (seen["server"], seen["path"]) != (host, f"/{host}/{number}"):
        return f"{target} /{number}: answered by {seen['server']} for {seen['path']}"
    return ""


work: queue.SimpleQueue = queue.SimpleQueue()
for item in zip(
    range(count), itertools.cycle(targets), itertools.cycle((socket.AF_INET,) * len(targets) + (socket.AF_INET6,) * len(targets))
):
    work.put(item)
wrong: list[str] = []
right: list[int] = []


def run() -> None:
    while True:
        try:
            item = work.get_nowait()
        except queue.Empty:
            return
        try:
            complaint = ask(*item)
        except (OSError, ValueError, IndexError) as error:
            complaint = f"{item[1]} /{item[0]}: {error!r}"
        if complaint:
            wrong.append(complaint)
        else:
            right.append(item[0])


crowd = [threading.Thread(target=run) for _ in range(threads)]
for thread in crowd:
    thread.start()
for thread in crowd:
    thread.join()
print(json.dumps({"right": len(right), "wrong": wrong[:20], "wrong_count": len(wrong)}))
