"""Runs inside: carries out asked.json, a list of [METHOD, URL] and [null, NAME], and prints, as JSON, what came of each.

A request: its status and body, its path sent as written. A name: "found", or the resolver's error.
"""

import http.client
import json
import pathlib
import socket
from urllib.parse import urlsplit


def ask(method: str | None, target: str) -> object:
    if method is None:
        try:
            socket.getaddrinfo(target, 443)
            return "found"
        except socket.gaierror as error:
            return "NXDOMAIN" if error.errno == socket.EAI_NONAME else str(error)
    url = urlsplit(target)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=10)
    try:
        connection.request(method, url.path, body=b"{}" if method == "POST" else None)
        answer = connection.getresponse()
        return [answer.status, answer.read().decode()]
    finally:
        connection.close()


print(json.dumps([ask(*asked) for asked in json.loads(pathlib.Path("asked.json").read_text())]))
