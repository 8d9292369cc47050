"""A machine that knows the tests' internet, and `stockade run` on it.

Stockade resolves with the *system* resolver and trusts the *system* store. Both are files: here each run gets a mount namespace of its own
in which /etc/hosts has the tests' names and the CA bundle the tests' roots. The product is not told that it is under test.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from framework.internet import Internet
from framework.patience import PATIENCE
from stockade.service.settings import Settings

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
STOCKADE = Path(sys.executable).parent / "stockade"
Record = dict[str, Any]

# What a caller may ask for by a short name, and where it is in a record (design, section 5).
_FIELDS = {
    "host": ("destination", "host"),
    "port": ("destination", "port"),
    "address": ("destination", "address"),
    "binary": ("binary", "name"),
    "binary_path": ("binary", "path"),
    "method": ("http", "method"),
    "path": ("http", "path"),
    "status": ("http", "status"),
}


def select(records: Sequence[Record], **expected: Any) -> list[Record]:
    """The records whose fields are as expected; `host`, `binary`, `method`… reach into the nested ones."""
    return [record for record in records if all(_field(record, name) == value for name, value in expected.items())]


def _field(record: Record, name: str) -> Any:
    value: Any = record
    for key in _FIELDS.get(name, (name,)):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def brief(records: Sequence[Record]) -> str:
    """One line a record, repeats counted, for the message of a failed assertion."""
    fields = ("action", "decision", "level", "reason", "rule", "binary", "host", "port", "method", "path", "status")
    lines = [" ".join(f"{name}={value}" for name in fields if (value := _field(record, name)) is not None) for record in records]
    counted = [(line, len(list(same))) for line, same in itertools.groupby(lines)]
    return "\n".join(line if times == 1 else f"{line}   × {times}" for line, times in counted)


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """What came of one `stockade run`, and what it wrote down."""

    status: int
    stdout: str
    stderr: str
    records: list[Record]
    audit: Path

    def select(self, **expected: Any) -> list[Record]:
        return select(self.records, **expected)

    def __repr__(self) -> str:
        return f"exit {self.status}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}\n--- records\n{brief(self.records)}"


class Running:
    """A `stockade run` in progress. `process.pid` is the agent itself."""

    def __init__(self, process: subprocess.Popen[str], audit: Path) -> None:
        self.process, self.audit = process, audit

    def records(self) -> list[Record]:
        return read_records(self.audit)

    def wait_for(self, text: str, path: Path, timeout: float = 30) -> str:
        """The content of a file that the command writes in its workdir, once `text` is in it."""
        wait_for(lambda: path.exists() and text in path.read_text(), f"{text!r} in {path}", timeout, self)
        return path.read_text()

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def finish(self, timeout: float = 60) -> Result:
        stdout, stderr = self.process.communicate(timeout=timeout * PATIENCE)
        return Result(self.process.returncode, stdout, stderr, self.records(), self.audit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.communicate(timeout=10 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()


class Machine:
    """Runs Stockade where the tests' names and roots are known. Each run has its own directory: work/, the policy, the audit."""

    def __init__(self, internet: Internet, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        lines = [f"{address} {name}" for name, both in internet.hosts.items() for address in (both.v4, both.v6)]
        self._hosts = directory / "hosts"
        self._hosts.write_text("127.0.0.1 localhost\n::1 localhost\n" + "\n".join(lines) + "\n")
        self._bundle = directory / "ca-certificates.crt"
        self._bundle.write_bytes(BUNDLE.read_bytes() + b"\n" + internet.roots)

    def room(self, files: Mapping[str, str] | None = None) -> Path:
        """A directory for one run, with `files` in its work/."""
        room = self._directory / str(next(self._numbers))
        (room / "work").mkdir(parents=True)
        for name, text in (files or {}).items():
            (room / "work" / name).write_text(text)
        return room

    def wrap(self, command: Sequence[str | Path]) -> list[str]:
        """The command as it must be started to find itself on this machine; exec'd all the way, so the pid is its own."""
        script = f'mount --bind {self._hosts} /etc/hosts && mount --bind {self._bundle} {BUNDLE} && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", *map(str, command)]

    def start(
        self,
        command: Sequence[str | Path] | str,
        *,
        policy: str | Path | None = None,
        files: Mapping[str, str] | None = None,
        options: Sequence[str | Path] = (),
        env: Mapping[str, str] | None = None,
        room: Path | None = None,
        pass_fds: Sequence[int] = (),
        through: Sequence[str | Path] = (),
    ) -> Running:
        """`stockade run` in the background; a command given as one string is split as a shell would.

        pass_fds: descriptors that Stockade itself inherits, as from a careless caller. through: a program, with arguments, that execs it.
        """
        room = room or self.room(files)
        words = shlex.split(command) if isinstance(command, str) else list(command)
        if isinstance(policy, str):
            (room / "policy.yaml").write_text(policy)
            policy = room / "policy.yaml"
        chosen = ["--policy", policy] if policy else []
        audit = room / "audit.jsonl"
        line = [*through, STOCKADE, "run", *chosen, *options, "--workdir", room / "work", "--audit", audit, "--", *words]
        process = subprocess.Popen(
            self.wrap(line),
            cwd=room / "work",
            env=os.environ | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=pass_fds,
        )
        return Running(process, audit)

    def run(self, command: Sequence[str | Path] | str, *, timeout: float = 90, **options: Any) -> Result:
        """`stockade run` to its end; see start() for the options."""
        with self.start(command, **options) as running:
            return running.finish(timeout)


def read_records(audit: Path) -> list[Record]:
    """Every decision in an audit file; a last line that is still being written is left out, and so are the trail's own checkpoints."""
    if not audit.exists():
        return []
    whole = audit.read_text().rpartition("\n")[0]
    return [record for record in map(json.loads, whole.splitlines()) if "action" in record]


def wait_for[T](probe: Callable[[], T], what: str, timeout: float = 30, running: Running | None = None) -> T:
    """What `probe()` returns once it is truthy."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not (value := probe()):
        if running and running.process.poll() is not None:
            raise AssertionError(f"ended while waiting for {what}:\n{running.finish()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout * PATIENCE} s for {what}")
        time.sleep(0.02)
    return value


def worker_of(agent: int) -> int:
    """The child of the agent that runs as the proxy's user."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = (process / "status").read_text()
        except OSError:  # it ended meanwhile
            continue
        if f"PPid:\t{agent}\n" in status and f"Uid:\t{Settings().proxy_user}\t" in status:
            return int(process.name)
    raise AssertionError("no proxy worker")
