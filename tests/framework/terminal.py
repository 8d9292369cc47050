"""A program on a pseudo-terminal of its own, as a person at a keyboard has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class Terminal:
    """What it has shown and nobody has waited for yet is in `shown`. Keys are not echoed."""

    def __init__(self, command: Sequence[str], directory: Path, rows: int = 24, columns: int = 80) -> None:
        self.shown = ""
        self._screen, theirs = os.openpty()
        attributes = termios.tcgetattr(theirs)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        self.resize(rows, columns)
        # setsid(1) makes a session, and the terminal its own, and execs: the pid is the command's
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command], cwd=directory, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "dumb"}
        )
        os.close(theirs)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Keys: a line ends with \\n, Ctrl-C is \\x03, Ctrl-Z is \\x1a."""
        os.write(self._screen, text.encode())

    def wait_for(self, text: str, timeout: float = 30) -> str:
        """What was shown before `text`, which is used up with it. Raises AssertionError when it does not come."""
        deadline = time.monotonic() + timeout
        while text not in self.shown:
            if time.monotonic() > deadline or not self._read():
                raise AssertionError(f"waited for {text!r}, and it showed:\n{self.shown}")
        before, _, self.shown = self.shown.partition(text)
        return before

    def ask(self, line: str) -> str:
        """What a line typed into a shell shows: the shell is made to say when it is through."""
        self.type(f"{line}; echo through-$((1+1))\n")
        return self.wait_for("through-2\r\n").replace("\r", "")

    def _read(self) -> bool:
        """Whether there may be more."""
        if not select.select([self._screen], [], [], 0.1)[0]:
            return True
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            if data := os.read(self._screen, 4096):
                self.shown += data.decode(errors="replace")
                return True
        return False

    def foreground(self) -> str:
        """The name of the program that the keyboard's signals go to; nothing when it has ended."""
        try:
            return Path(f"/proc/{os.tcgetpgrp(self._screen)}/comm").read_text().strip()
        except OSError:
            return ""

    def finish(self, timeout: float = 30) -> int:
        """Its exit status; 128 and the signal, as a shell has it."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            self._read()
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end, and showed:\n{self.shown}")
        status = self.process.wait()
        return status if status >= 0 else 128 - status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(AssertionError):
                self.finish(10)
        self.process.kill()
        self.process.wait()
        os.close(self._screen)
