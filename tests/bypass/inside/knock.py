"""Runs inside: knocks at every way out, round after round, and writes down how each answered: `WORD WAY OUTCOME`, one line each.

knock.py FACTS.json        the WORD, part of the token, is read anew from the file `word` before each round; `end` ends it
"""

import contextlib
import errno
import http.client
import json
import pathlib
import socket
import sys
import time

facts = json.loads(pathlib.Path(sys.argv[1]).read_text())
ECHO = socket.getaddrinfo(facts["echo"], 80, socket.AF_INET, socket.SOCK_STREAM)[0][4]


def ask(sock, token):
    connection = http.client.HTTPConnection(facts["echo"])
    connection.sock, connection.auto_open = sock, 0
    connection.request("GET", f"/open/{token}")
    answer = connection.getresponse()
    answer.read()
    return str(answer.status)


def connected(address):
    sock = socket.create_connection(address, 2)
    sock.settimeout(2)
    return sock


def allowed(token):
    with connected(ECHO) as sock:
        return ask(sock, token)


def straight(token):
    """To the agent's listener by its own address, as if nothing stood between."""
    with connected((facts["agent"], facts["agent_port"])) as sock:
        return ask(sock, token)


def stream(token):
    with connected((facts["v4"], facts["port"])) as sock:
        sock.sendall(token.encode())
        return "out" if sock.recv(10) else "closed"


def datagram(token):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(token.encode(), (facts["v4"], facts["port"]))
        return "sent"


kept_connection = connected(ECHO)


def kept(token):
    return ask(kept_connection, token)


with open("knock.log", "w", buffering=1) as log:  # noqa: PTH123 (runs on any Python 3)
    while (word := pathlib.Path("word").read_text()) != "end":
        for way in (allowed, kept, straight, stream, datagram):
            try:
                said = way(f"~{facts['phase']}.{word}~")
            except TimeoutError:
                said = "silence"
            except (OSError, http.client.HTTPException) as error:
                said = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
            log.write(f"{word} {way.__name__} {said}\n")
        log.write(f"{word} round over\n")
        for _ in range(facts.get("flood", 0) if word == "flood" else 0):
            with contextlib.suppress(OSError):
                datagram("flood")
        if word == "flood":
            log.write("flooded\n")
            pathlib.Path("word").write_text("flooded")
        time.sleep(0.02)
