"""Runs inside the second of two sandboxes: reaches for everything of the first, and prints, as JSON, what came of it.

visitor.py HAVE.json HOST: HOST may be asked for here too, and is another one than the first one's.
"""

import contextlib
import errno
import json
import os
import pathlib
import socket
import sys

have = json.loads(pathlib.Path(sys.argv[1]).read_text())


def outcome(attempt):
    try:
        return attempt()
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)


def speak(family, where):
    def attempt():
        with socket.socket(family) as sock:
            sock.settimeout(2)
            sock.connect(where)
            sock.sendall(b"from next door")
            return "reached"

    return outcome(attempt)


def kill(pid):
    os.kill(pid, 0)
    return "reached"


def every_process():
    mine = {1, os.getpid()}
    for pid in range(2, 65536):
        if pid not in mine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 0)
                return f"reached {pid}"
    return "ESRCH"


socket.getaddrinfo(sys.argv[2], 80)  # so that the same index of the table is taken here, by another name
print(
    json.dumps(
        {
            "pid": outcome(lambda: kill(have["host_pid"])),
            "processes": outcome(every_process),
            "tmp": outcome(lambda: pathlib.Path("/tmp/secret").read_text()),
            "shm": outcome(lambda: pathlib.Path("/dev/shm/secret").read_text()),
            "workdir": outcome(lambda: str(list(pathlib.Path(have["workdir"]).iterdir()))),
            "unix": speak(socket.AF_UNIX, "/tmp/neighbour.sock"),
            "abstract": speak(socket.AF_UNIX, "\0stockade-neighbour"),
            "loopback4": speak(socket.AF_INET, ("127.0.0.1", 8123)),
            "loopback6": speak(socket.AF_INET6, ("::1", 8123)),
            "synthetic": speak(socket.AF_INET, (have["synthetic"], 80)),
            "ca": "the same" if have["authority"] in pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_text() else "another",
        }
    )
)
