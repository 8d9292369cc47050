"""Runs inside: one long answer for each URL, all at once. How each went on is in downloads.log: `PATH begun`, then `PATH whole N` or
`PATH cut N` with the octets that came."""

import http.client
import sys
import threading
import urllib.parse


def fetch(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(parts.netloc, timeout=30)
    received = 0
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        while data := response.read1(65536):
            if not received:
                log.write(f"{parts.path} begun\n")
            received += len(data)
        log.write(f"{parts.path} whole {received}\n")
    except (OSError, http.client.HTTPException):
        log.write(f"{parts.path} cut {received}\n")


with open("downloads.log", "w", buffering=1) as log:  # noqa: PTH123 (runs on any Python 3)
    threads = [threading.Thread(target=fetch, args=(url,)) for url in sys.argv[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
