"""A terminal as `top` uses it: the alternate screen, single keys, and its size, whatever it is by now. Plain ANSI; put back as it was."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self

from stockade.cli.top.screen import Row

_STYLES = {"plain": "", "title": "\x1b[7m", "head": "\x1b[1m", "bad": "\x1b[31m", "dim": "\x1b[2m"}
_KEYS = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1b[5~": "pageup",
    b"\x1b[6~": "pagedown",
    b"\x1b": "esc",
    b"\t": "tab",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "back",
    b"\x08": "back",
}


class Terminal:
    """Of standard input and output."""

    def __enter__(self) -> Self:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._before: list[Any] = termios.tcgetattr(self._in)
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._handlers = {number: signal.signal(number, self._wake) for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP)}
        self.ended = False
        tty.setcbreak(self._in)
        self._write("\x1b[?1049h\x1b[?25l\x1b[?7l")  # the other screen, no cursor, no wrapping
        return self

    def __exit__(self, *_: object) -> None:
        self._write("\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l")
        termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._waker)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        size = shutil.get_terminal_size((80, 24))
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self._out)
        return max(size.columns, 20), max(size.lines, 5)

    def show(self, rows: Sequence[Row]) -> None:
        """In one write, so that nothing flickers. The text is printable already."""
        lines = [f"{_STYLES[row.style]}{row.text}\x1b[0m\x1b[K" for row in rows]
        self._write("\x1b[H" + "\r\n".join(lines) + "\x1b[J")

    def keys(self, seconds: float) -> list[str]:
        """What is pressed within that time; returns as soon as something is, or the size changes."""
        readable, _, _ = select.select([self._in, self._woken], [], [], max(0.0, seconds))
        if self._woken in readable:
            os.read(self._woken, 64)
        if self._in not in readable:
            return []
        data = os.read(self._in, 256)
        if not data:
            self.ended = True
        return _split(data)

    def _wake(self, number: int, _frame: FrameType | None) -> None:
        self.ended = self.ended or number != signal.SIGWINCH
        os.write(self._waker, b"x")

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._out, data) :]


def _split(data: bytes) -> list[str]:
    found = []
    while data:
        known = next((key for key in sorted(_KEYS, key=len, reverse=True) if data.startswith(key)), None)
        if known is not None:
            found.append(_KEYS[known])
            data = data[len(known) :]
            continue
        if 0x20 <= data[0] < 0x7F:
            found.append(chr(data[0]))
        data = data[1:]
    return found
