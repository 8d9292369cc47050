"""The terminal of a `stockade run` that a daemon serves: a new one for the command, and the user's own as its window.

The command's session is another, so its keys must become signals there: the user's terminal is made raw, and what is typed goes on as it
is. Only standard streams that are terminals are replaced; a pipe stays what it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import tty
from typing import Any

_SIZE = struct.pack("HHHH", 0, 0, 0, 0)


class Terminal:
    """master: this end of the new one. streams: of the command."""

    def __init__(self, streams: tuple[int, int, int]) -> None:
        self.master, self.slave = os.openpty()
        self.streams = tuple(self.slave if os.isatty(stream) else stream for stream in streams)
        self.typed = 0 if os.isatty(0) else None  # where keys come from
        self._window = next(stream for stream in (0, 1, 2) if os.isatty(stream))
        self.shown = next((stream for stream in (1, 2) if os.isatty(stream)), self._window)
        self._before: list[Any] | None = None
        termios.tcsetattr(self.slave, termios.TCSANOW, termios.tcgetattr(self._window))
        self.resize()

    @staticmethod
    def wanted(streams: tuple[int, int, int]) -> bool:
        return any(map(os.isatty, streams))

    def handed_over(self) -> None:
        """The daemon has the other end."""
        os.close(self.slave)

    def engage(self) -> bool:
        """Let keys go through untouched from now on, unless somebody else has the user's terminal. Whether it is so for the first time."""
        if self.typed is None or self._before is not None or os.tcgetpgrp(self.typed) != os.getpgrp():
            return False
        self._before = termios.tcgetattr(self.typed)
        tty.setraw(self.typed, termios.TCSADRAIN)
        return True

    def resize(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, fcntl.ioctl(self._window, termios.TIOCGWINSZ, _SIZE))

    def type(self) -> bool:
        """Pass on what was typed. False at its end."""
        data = os.read(0, 4096)
        if not data:
            return False
        _write(self.master, data)
        return True

    def show(self) -> bool:
        """Pass on what the command wrote. False when nobody holds the other end any more."""
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:
            return False
        if data:
            _write(self.shown, data)
        return bool(data)

    def close(self) -> None:
        if self._before is not None and self.typed is not None:
            termios.tcsetattr(self.typed, termios.TCSADRAIN, self._before)
        os.close(self.master)


def _write(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]
