"""`stockade run` as the client of a daemon: its streams go over, signals and keys after them, and the status of the command comes back.

The daemon may be replaced while the command runs. It is then nobody's client, and waits for the command itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from stockade.daemon.run import SIGNALS, said
from stockade.daemon.terminal import Terminal
from stockade.sandbox import exited
from stockade.service.blueprint import Surroundings
from stockade.service.control import LINE, VERSION
from stockade.service.order import Order
from stockade.service.stdio import Stdio
from stockade.types import StockadeError

UNKNOWN = 125
_LOOKS = 50  # 20 ms apart
_FORWARDED = SIGNALS - {signal.SIGWINCH, signal.SIGCONT}


def run(order: Order, path: Path) -> int:
    """path: of the daemon's socket. The status of the command. Raises StockadeError when it could not be started."""
    stdio = Stdio()
    terminal = Terminal(stdio.given) if Terminal.wanted(stdio.given) else None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
            line = json.dumps({"v": VERSION, "verb": "run", "arguments": said(order, Surroundings.here())}).encode() + b"\n"
            if len(line) > LINE:
                raise StockadeError("the order is too long: environment and arguments", hint="stockade run --embedded", code="too_long")
            sent = socket.send_fds(sock, [line], list(terminal.streams if terminal is not None else stdio.given))
            if sent < len(line):  # to send nothing fails too, where the daemon has answered already
                sock.sendall(line[sent:])
        except OSError as error:
            raise StockadeError(f"the daemon does not answer: {error.strerror or error}", code="control") from None
        stdio.handed_over()
        conversation = _Conversation(sock, terminal)
        try:
            return conversation.hold()
        finally:
            stdio.finish()
            if terminal is not None:
                terminal.close()


class _Conversation:
    def __init__(self, sock: socket.socket, terminal: Terminal | None) -> None:
        self._sock, self._terminal = sock, terminal
        self._heard = b""
        self._init: int | None = None  # a pidfd, once the command runs
        self._pid = 0
        self._status: int | None = None

    def hold(self) -> int:
        """Until the command ends."""
        told, tell = socket.socketpair()
        told.setblocking(False)
        tell.setblocking(False)
        with told, tell:
            heard = {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}  # nohup's stays what it is
            before = {number: signal.signal(number, _noted) for number in heard}
            woken = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
            if self._terminal is not None:
                self._terminal.handed_over()
            try:
                self._turn(told)
            finally:
                signal.set_wakeup_fd(woken)
                for number, handler in before.items():
                    signal.signal(number, handler)
        if self._status is None:
            self._status = self._await()
        return self._status

    def _turn(self, told: socket.socket) -> None:
        terminal, poll = self._terminal, select.poll()
        for each in (self._sock, told):
            poll.register(each, select.POLLIN)
        if terminal is not None:
            poll.register(terminal.master, select.POLLIN)
            if terminal.engage():
                poll.register(0, select.POLLIN)
        while self._status is None:
            for descriptor, _ in poll.poll():
                if descriptor == told.fileno():
                    self._pass_on(told.recv(64))
                    if terminal is not None and terminal.engage():  # brought to the foreground
                        poll.register(0, select.POLLIN)
                elif descriptor == self._sock.fileno():
                    if not self._hear():
                        poll.unregister(self._sock)
                        if self._init is None:
                            raise StockadeError("the daemon ended while it started the sandbox", code="control")
                        poll.register(self._init, select.POLLIN)
                elif self._init is not None and descriptor == self._init:
                    return
                elif terminal is not None and descriptor == terminal.master:
                    if not terminal.show():
                        poll.unregister(terminal.master)
                elif terminal is not None and not terminal.type():
                    poll.unregister(descriptor)
        if terminal is not None:
            while select.select([terminal.master], [], [], 0)[0] and terminal.show():
                pass

    def _pass_on(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGWINCH and self._terminal is not None:
                self._terminal.resize()
            elif number in _FORWARDED:
                try:
                    self._sock.sendall(json.dumps({"signal": number}).encode() + b"\n")
                except OSError:
                    if self._init is not None:
                        with contextlib.suppress(OSError):
                            signal.pidfd_send_signal(self._init, number)

    def _hear(self) -> bool:
        """False when the daemon is gone. Raises StockadeError with what it refused."""
        try:
            data = self._sock.recv(LINE)
        except OSError:
            data = b""
        self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            self._understand(json.loads(line))
        return bool(data)

    def _understand(self, line: dict[str, Any]) -> None:
        if (error := line.get("error")) is not None:
            raise StockadeError(str(error["message"]), hint=str(error["hint"]), code=str(error["code"]))
        if (words := line.get("said")) is not None:
            end = "\r\n" if self._terminal is not None else "\n"
            print(words, file=sys.stderr, end=end, flush=True)
        if (started := line.get("started")) is not None:
            self._pid = int(started["init"])
            with contextlib.suppress(ProcessLookupError):  # it has ended already, as will be told
                self._init = os.pidfd_open(self._pid)
        if (status := line.get("ended")) is not None:
            self._status = int(status)

    def _await(self) -> int:
        """The daemon is gone, and so is the command."""
        status = None
        for _ in range(_LOOKS):  # whoever reaps it may be doing so: for a moment it is told nowhere
            if self._init is None or (status := exited.at_once(self._init, self._pid)) is not None:
                break
            time.sleep(0.02)
        if status is None:
            print("stockade: the daemon was replaced, and this kernel does not say how the command ended", file=sys.stderr)
            return UNKNOWN
        return status


def _noted(_number: int, _frame: object) -> None:
    """What came stands in the wakeup descriptor."""
