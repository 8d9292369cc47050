"""The first process of a container, for as long as it takes: does what the test writes into files `do-N`; the outcome goes into `done-N`.

`ask METHOD URL`, `tcp ADDRESS PORT` (what a connection is answered), `keep ADDRESS PORT` and `say` (a connection that stays, and a word on
it), `udp ADDRESS PORT`, `packet DEVICE [bypass]` (a frame of its own to everybody), `listen PORT` (answers whoever comes with `inside`),
`run PROGRAM ARGUMENT…` (its status and output).
"""

import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

AF_PACKET, SOL_PACKET, PACKET_QDISC_BYPASS = 17, 263, 20
WORD = b"stockade-leak"
kept: list[socket.socket] = []


def answers(listener: socket.socket) -> None:
    while True:
        peer = listener.accept()[0]
        peer.sendall(b"inside")
        peer.close()


def obey(word: str, *rest: str) -> str:
    try:
        if word == "ask":
            with urllib.request.urlopen(urllib.request.Request(rest[1], method=rest[0]), timeout=15) as answer:
                return str(answer.status)
        if word == "tcp":
            with socket.create_connection((rest[0], int(rest[1])), timeout=5) as sock:
                sock.sendall(WORD)
                return sock.recv(100).decode()
        if word == "keep":
            kept.append(socket.create_connection((rest[0], int(rest[1])), timeout=5))
            kept[-1].sendall(WORD)
            return kept[-1].recv(100).decode()
        if word == "say":
            kept[-1].sendall(WORD)
            return kept[-1].recv(100).decode() or "closed"
        if word == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(WORD, (rest[0], int(rest[1])))
                return "sent"
        if word == "packet":
            with socket.socket(AF_PACKET, socket.SOCK_RAW, 0) as sock:
                if rest[1:]:
                    sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
                sock.bind((rest[0], 0x88B5))
                sock.send(b"\xff" * 6 + sock.getsockname()[4][:6] + b"\x88\xb5" + WORD.ljust(60, b"."))
                return "sent"
        if word == "listen":
            listener = socket.create_server(("0.0.0.0", int(rest[0])))
            threading.Thread(target=answers, args=(listener,), daemon=True).start()
            return "listening"
        if word == "run":
            done = subprocess.run(rest, capture_output=True, text=True, timeout=30)
            return f"{done.returncode} {done.stdout}{done.stderr}"
    except urllib.error.HTTPError as error:
        return str(error.code)
    except (OSError, subprocess.SubprocessError) as error:
        return f"failed {error!r}"
    sys.exit(int(rest[0]))


number, work = 0, pathlib.Path(sys.argv[1] if sys.argv[1:] else "/work")
while True:
    order = work / f"do-{number}"
    if not order.exists():
        time.sleep(0.02)
        continue
    part = work / f"done-{number}.part"
    part.write_text(obey(*order.read_text().split()))
    part.rename(work / f"done-{number}")
    number += 1
