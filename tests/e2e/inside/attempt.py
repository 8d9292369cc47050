"""Runs inside: tries each `KIND,ADDRESS,PORT` and prints, as one JSON object, what the system said to it.

KIND: tcp (connect, then send), fastopen (sendto MSG_FASTOPEN), udp (sendto), udp-connected (connect, then send), bind (TCP).
"""

import contextlib
import errno
import json
import socket
import sys

PAYLOAD = b"stockade must not let this out\n"


def attempt(kind: str, address: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind.startswith("udp") else socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            if kind == "bind":
                sock.bind((address, port))
                return "bound"
            if kind == "udp":
                sock.sendto(PAYLOAD, (address, port))
            elif kind == "fastopen":
                with contextlib.suppress(BlockingIOError):  # EINPROGRESS: the SYN is out, and recv() will tell
                    sock.sendto(PAYLOAD, socket.MSG_FASTOPEN, (address, port))
            else:
                sock.connect((address, port))
                sock.sendall(PAYLOAD)
            return "answered" if sock.recv(100) else "closed"
        except TimeoutError:
            return "silence"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))


if __name__ == "__main__":
    said = {}
    for word in sys.argv[1:]:
        kind, address, port = word.split(",")
        said[word] = attempt(kind, address, int(port))
    print(json.dumps(said))
