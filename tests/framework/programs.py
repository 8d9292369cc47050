"""Programs built outside the sandbox, into a directory of root's that no sandbox can write."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCES = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the built programs lie. A missing compiler is a RuntimeError: the caller decides whether that skips."""

    directory: Path

    def c(self, name: str, compiler: str, *flags: str, source: str = "get") -> Path:
        """programs/SOURCE.c built as `name`."""
        program = self.directory / name
        if not program.exists():
            self._build(compiler, "-O2", "-Wall", "-o", str(program), str(_SOURCES / f"{source}.c"), *flags)
        return program

    def java(self) -> Path:
        """The directory to give `java -cp`, with the class Fetch."""
        if not (self.directory / "Fetch.class").exists():
            self._build("javac", "-d", str(self.directory), str(_SOURCES / "Fetch.java"))
        return self.directory

    def _build(self, compiler: str, *arguments: str) -> None:
        if not shutil.which(compiler):
            raise RuntimeError(f"no {compiler} on the PATH")
        subprocess.run([compiler, *arguments], check=True)
