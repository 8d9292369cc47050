"""What containers are attached to with, and a cgroup of several processes that can be attached to as well."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self

from framework import containers
from framework.containers import Container
from framework.internet import ECHO
from framework.machine import wait_for
from framework.policy import http, whole
from stockade.sandbox.cgroup import mounted

POLICY = whole(
    http(["curl", "python3"], ECHO, methods=["GET"], paths=["/open/**"]),
    allow=["python3", "curl", "sh", "cat"],
)
CURL = "/usr/bin/curl -sS -k -o /dev/null -w %{http_code}"


TRIES = """
import contextlib, pathlib, socket, sys, threading, time
host, tcp, udp = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
here = pathlib.Path(sys.argv[4])
tried = {"tcp": 0, "udp": 0}
def until_stopped(kind, attempt):
    while not (here / "stop").exists():
        with contextlib.suppress(OSError):
            attempt()
        tried[kind] += 1
        time.sleep(0.001)
def connect():
    with socket.socket() as sock:
        sock.settimeout(0.05)
        sock.connect((host, tcp))
        sock.sendall(b"stockade-leak")
threads = [threading.Thread(target=until_stopped, args=("tcp", connect))]
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
threads.append(threading.Thread(target=until_stopped, args=("udp", lambda: datagrams.sendto(b"stockade-leak", (host, udp)))))
for thread in threads:
    thread.start()
(here / "begun").touch()
for thread in threads:
    thread.join()
print(*tried.values(), flush=True)
"""


class Several:
    """A cgroup of the test's own, with a process in each of these network namespaces, in this order."""

    def __init__(self, place: Path, inside: dict[str, str], *networks: Path, name: str = "several") -> None:
        self.cgroup = mounted() / f"stockade-tests-{os.getpid()}-{name}"
        self.cgroup.mkdir()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.containers: list[Container] = []
        for network in networks:
            work = containers.work_directory(place, inside)
            line = ["nsenter", f"--net={network}", "/usr/bin/python3", str(work / "contained.py"), str(work)]
            process = subprocess.Popen(["sh", "-c", f'echo $$ > {self.cgroup}/cgroup.procs; exec "$0" "$@"', *line])
            self.processes.append(process)
            self.containers.append(Container("several", work, process.pid, []))
            self.containers[-1].do("run /usr/bin/true")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        wait_for(lambda: not (self.cgroup / "cgroup.procs").read_text(), "an empty cgroup")
        self.cgroup.rmdir()
