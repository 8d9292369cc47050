"""The judge: asks the process that evaluates Rego (engine.py), and takes every silence for a failure.

One at a time and synchronous: `decide` is a function, and an answer takes a fraction of a millisecond. Whatever goes wrong raises Failed,
which `weigh` turns into a denial.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from stockade.policy.rego import engine
from stockade.policy.rego.module import Rego

MILLISECONDS = 50  # that one evaluation may take
CHECK_MILLISECONDS = 5_000  # that reading a policy may take
GRACE = 1.0  # seconds beyond: the next child is forked meanwhile


class Failed(Exception):
    """Rego gave no answer, and why not."""


class Judge:
    """One end of a channel to an evaluating process of its own."""

    def __init__(self, channel: socket.socket, milliseconds: int = MILLISECONDS, process: subprocess.Popen[bytes] | None = None) -> None:
        self._channel, self.process = channel, process
        self._lock = threading.Lock()
        self._broken = False
        channel.settimeout(milliseconds / 1000 + GRACE)

    @classmethod
    def start(cls, *, user: int | None = None, milliseconds: int = MILLISECONDS) -> Self:
        """A new process, which becomes `user` when the caller may change users. Raises OSError."""
        channel, process = launch(user=user, milliseconds=milliseconds)
        return cls(channel, milliseconds, process)

    def check(self, modules: list[tuple[str, str]]) -> dict[str, Any]:
        """What the engine makes of (name, text) pairs; see engine.py. Raises Failed."""
        return self._reading({"check": modules})

    def unknown(self, functions: list[str]) -> frozenset[str]:
        """Those of the functions that the engine does not have. Raises Failed."""
        return frozenset(self._reading({"functions": functions})["unknown"])

    def evaluate(self, rego: Rego, request: dict[str, Any]) -> tuple[bool, bool]:
        """(allow, deny). Raises Failed."""
        with self._lock:
            answer = self._ask({"key": rego.key, "input": request})
            if answer.get("missing"):
                self._ask({"load": rego.key, "modules": [[module.name, module.text, module.v1] for module in rego.modules]})
                answer = self._ask({"key": rego.key, "input": request})
        if answer.keys() != {"allow", "deny"}:
            raise Failed(str(answer.get("failed", "no answer")))
        return answer["allow"] is True, answer["deny"] is True

    def close(self) -> None:
        """Ends the process."""
        self._channel.close()
        if self.process is not None:
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reading(self, message: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            answer = self._ask(message)
        if "failed" in answer:
            raise Failed(str(answer["failed"]))
        return answer

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises Failed, for good once an answer did not come: the next one would be of another question."""
        if self._broken:
            raise Failed("the evaluating process is gone")
        try:
            data = json.dumps(message).encode()
            self._channel.sendall(engine.LENGTH.pack(len(data)) + data)
            (length,) = engine.LENGTH.unpack(self._exactly(engine.LENGTH.size))
            answer: dict[str, Any] = json.loads(self._exactly(min(length, engine.FRAME_BYTES)))
        except (OSError, ValueError) as error:
            self._broken = True
            self._channel.close()  # whose end ends the process: who watches it starts another
            raise Failed(f"the evaluating process does not answer: {error}") from None
        return answer

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._channel.recv(size - len(data))
            if not part:
                raise OSError("it ended")
            data += part
        return bytes(data)


def launch(*, user: int | None = None, milliseconds: int = MILLISECONDS) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The channel to a new evaluating process, which ends with the channel's last descriptor. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        uid = user if user is not None and os.geteuid() == 0 else -1
        # Isolated and without an environment: nothing that a caller has set steers it, and Rego can read none of it.
        words = [sys.executable, "-I", str(Path(engine.__file__)), str(theirs.fileno()), str(milliseconds), str(uid)]
        quiet = subprocess.DEVNULL  # stderr too: the engine warns there
        process = subprocess.Popen(words, pass_fds=[theirs.fileno()], env={}, stdin=quiet, stdout=quiet, stderr=quiet, cwd="/")
    return ours, process


_current: Judge | None = None
_forgone = False


def current() -> Judge | None:
    """The judge of this process: started when it is first asked for, None where it was forgone."""
    global _current
    if _current is None and not _forgone:
        _current = Judge.start()
    return _current


def use(judge: Judge | None) -> None:
    """What `current` answers from here on. None: this process leaves it to others (the agent to its workers), and evaluates nothing."""
    global _current, _forgone
    _current, _forgone = judge, judge is None


def reset() -> None:
    """Ends this process's own judge and forgets what `use` said."""
    global _current, _forgone
    if _current is not None:
        _current.close()
    _current, _forgone = None, False
