"""A daemon that the tests start, one after the other, and a process in a sandbox of it that lives through them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from framework.machine import STOCKADE, Machine, Record, select, wait_for
from framework.policy import http, whole
from stockade.daemon.unit import CAPABILITIES
from stockade.service.control import running
from stockade.service.listening import answers
from stockade.service.settings import Settings

SETTINGS = Settings()
SOCKET = SETTINGS.daemon
TRAIL = SETTINGS.log / "daemon.jsonl"
PYTHON = "/usr/bin/python3"
AS_THE_UNIT = ",".join(["-all", *("+" + name.removeprefix("CAP_").lower() for name, _ in CAPABILITIES)])  # each test tests it


class Daemon:
    """One after the other: `start` is also what comes after `kill`."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._machine, self._log = machine, directory / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._known = TRAIL.stat().st_size if TRAIL.exists() else 0

    def start(self, package: Path | None = None, *options: str | Path) -> None:
        """package: the directory of another version's."""
        command = [STOCKADE] if package is None else [sys.executable, "-P", "-m", "stockade"]
        environment = os.environ | ({"PYTHONPATH": str(package)} if package is not None else {})
        with self._log.open("ab") as log:
            line = self._machine.wrap(["setpriv", "--bounding-set", AS_THE_UNIT, *command, "daemon", *options])
            self.process = subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        wait_for(lambda: answers(SOCKET) and self.node(), "the daemon", 60)
        assert self.node()["pid"] == self.pid, "another daemon serves this machine"

    def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def said(self) -> str:
        return self._log.read_text()

    def node(self) -> dict[str, Any]:
        found = asked({"v": 1, "verb": "node"})["answer"]
        assert isinstance(found, dict)
        return found

    def records(self, **expected: Any) -> list[Record]:
        """Of this test's daemons."""
        with TRAIL.open() as file:
            file.seek(self._known)
            whole = file.read().rpartition("\n")[0]
        return select([record for record in map(json.loads, whole.splitlines()) if "action" in record], **expected)

    def line(self, room: Path, policy: str, name: str, command: Sequence[str | Path]) -> list[str]:
        (room / "policy.yaml").write_text(policy)
        options = ["--policy", room / "policy.yaml", "--name", name, "--workdir", room / "work"]
        return [str(word) for word in (STOCKADE, "run", *options, "--", *command)]

    def run(self, command: Sequence[str | Path], policy: str, name: str, **files: str) -> subprocess.CompletedProcess[str]:
        room = self._machine.room({each.replace("_", "."): text for each, text in files.items()})
        line = self.line(room, policy, name, command)
        return subprocess.run(line, cwd=room / "work", capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def asked(request: dict[str, Any]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rwb") as lines:
        sock.settimeout(20)
        sock.connect(str(SOCKET))
        lines.write(json.dumps(request).encode() + b"\n")
        lines.flush()
        found: dict[str, Any] = json.loads(lines.readline())
        return found


def is_nobodys(path: Path) -> bool:
    """Whether this is of a slot that no agent holds."""
    with contextlib.suppress(FileNotFoundError), path.with_name(path.name.partition(".")[0]).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return path.exists()


def name_of(request: pytest.FixtureRequest, number: int = 1) -> str:
    return f"{request.node.name.partition('[')[0][5:40]}-{os.getpid()}-{number}"


def fetch(host: str) -> list[str]:
    code = f"import urllib.request; print(urllib.request.urlopen('https://{host}/daemon', timeout=20).status)"
    return [PYTHON, "-c", code]


def allowed(*hosts: str) -> str:
    return whole(http("python3", *hosts), allow=["python3", "bash", "sleep", "stty", "cat", "sh"])


class Obeying:
    """A process inside that does what it is told, through files of its workdir, and lives through its agents."""

    def __init__(self, daemon: Daemon, inside: dict[str, str], policy: str, name: str) -> None:
        self.name, room = name, daemon._machine.room(inside)
        self.work = room / "work"
        line = daemon.line(room, policy, name, [PYTHON, "obeys.py"])
        self.client = subprocess.Popen(line, cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._orders = 0
        wait_for(lambda: name in running(SETTINGS.control), "the sandbox")

    def tell(self, line: str) -> Path:
        number, self._orders = self._orders, self._orders + 1
        part = self.work / f"order-{number}"
        part.write_text(line)
        part.rename(self.work / f"do-{number}")
        return self.work / f"done-{number}"

    def do(self, line: str) -> str:
        done = self.tell(line)
        wait_for(done.exists, line)
        return done.read_text()

    def exit(self, status: int) -> int:
        self.tell(f"exit {status}")
        return self.client.wait(60)
