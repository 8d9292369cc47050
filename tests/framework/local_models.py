"""Servers of local models, each a process of its own on the host's loopback: llama.cpp's, and strict ones of each API."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Self

from framework import libraries, tiny_model

_PROGRAMS = Path(__file__).parent / "programs"
CLIENTS = ("openai==3.57.0", "anthropic==2.14.0", "ollama==0.6.3", "google-genai==3.6.1")
LLAMA = "xllamacpp==2026.10.11549"
Json = dict[str, Any]


def clients() -> Path:
    """The official clients, compiled: each run of them would do that anew otherwise, for some seconds. Raises RuntimeError."""
    site = libraries.python(*CLIENTS)
    done = site / ".compiled"
    if not done.exists():
        subprocess.run([libraries.PYTHON, "-m", "compileall", "-qq", "-j", "0", site], check=False, capture_output=True)
        done.touch()
    return site


class Server:
    """One that runs. Raises RuntimeError where its libraries cannot be had."""

    def __init__(
        self, program: str, arguments: list[str | Path], requirements: tuple[str, ...], log: Path, through: tuple[str, ...] = ()
    ) -> None:
        """through: a program, with arguments, that execs it."""
        self._log = log
        environment = os.environ | {"PYTHONPATH": str(libraries.python(*requirements))}
        command = [*through, libraries.PYTHON, _PROGRAMS / program, *arguments]
        errors = log.with_suffix(".stderr").open("w")
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise AssertionError(f"{program} did not start: {Path(errors.name).read_text()[-2000:]}")
        self.port = int(said)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def heard(self) -> list[Json]:
        """The requests so far. Raises AssertionError for one that its API does not allow."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []
        assert not [line for line in lines if "invalid" in line], lines
        return lines

    def release(self) -> None:
        """Whoever waits goes on."""
        with urllib.request.urlopen(f"{self.url}/release", timeout=10):
            pass

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def strict(api: str, directory: Path, where: tuple[str, ...] = (), through: tuple[str, ...] = ()) -> Server:
    """where: address and port; without them any port of the loopback."""
    clients()
    log = directory / f"{api}.jsonl"
    return Server("local_server.py", [api, log, *where], CLIENTS, log, through)


def llama(directory: Path, where: tuple[str, ...] = (), through: tuple[str, ...] = ()) -> Server:
    model = directory / "tiny.gguf"
    tiny_model.write(model)
    return Server("llama_server.py", [model, *where], (LLAMA,), directory / "llama.jsonl", through)
