"""Who copies a standard stream that is a socket: ended by the last who needs it, held up by nobody."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.patience import PATIENCE

WAIT = 60 * PATIENCE
SIZE = 1_000_000  # what a pipe can hold, and these sockets cannot
AGENT = """
import os, signal, sys
from stockade.service import stdio
stdio._STUCK, stdio._SILENT = float(sys.argv[1]), float(sys.argv[1])
streams = stdio.Stdio()
command = os.fork()
if command == 0:
    for number, given in enumerate(streams.given):
        os.dup2(given, number)
    os.execv(sys.executable, [sys.executable, "-c", *sys.argv[3:]])
streams.handed_over()
if sys.argv[2] == "stopped":
    os.kill(streams._copier[0], signal.SIGSTOP)
os.waitpid(command, 0)
streams.finish()
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    os.write(2, b"nobody is left\\n")
"""
WRITES = f"""
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
assert os.write(1, b"x" * {SIZE}) == {SIZE}
"""


@contextlib.contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The one that is given, and its peer. Of TCP, with as little room as there can be."""
    with socket.socket() as listener, socket.socket() as peer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        peer.connect(listener.getsockname())
        peer.settimeout(WAIT)
        with listener.accept()[0] as given:
            yield given, peer


def agent(stuck: float, *words: str, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", AGENT, str(stuck), *words], **{"stdin": subprocess.DEVNULL, **streams})


@pytest.mark.parametrize("waits", [True, False])
def test_a_peer_that_takes_nothing_holds_nobody_up(waits: bool) -> None:
    with connection() as (given, peer):
        given.setblocking(waits)
        with agent(0.5, "", WRITES, stdout=given, stderr=subprocess.PIPE) as running:
            try:
                said = running.communicate(timeout=WAIT)[1].decode().splitlines()
            finally:
                running.kill()
                peer.close()
    assert said == [
        "stockade: standard output: its reader takes nothing more, and the command has ended",
        "nobody is left",
    ]


def test_nor_does_who_copies(tmp_path: Path) -> None:
    """Whatever holds it up: here it is stopped."""
    with (tmp_path / "out").open("wb") as out, agent(0.5, "stopped", WRITES, stdout=out, stderr=subprocess.PIPE) as running:
        try:
            assert running.communicate(timeout=WAIT)[1] == b"nobody is left\n"
        finally:
            running.kill()


def test_a_slow_peer_gets_all_of_it() -> None:
    """It takes longer over the whole than one may that takes nothing."""
    stuck = 3 * PATIENCE
    with connection() as (given, peer), agent(stuck, "", WRITES, stdout=given, stderr=subprocess.PIPE) as running:
        try:
            given.close()
            got, began = 0, time.monotonic()
            while part := peer.recv(SIZE // 20):
                got += len(part)
                if time.monotonic() - began < 2 * stuck and got < SIZE // 2:
                    time.sleep(0.3)
            assert running.communicate(timeout=WAIT)[1] == b"nobody is left\n"
        finally:
            running.kill()
    assert got == SIZE


@pytest.mark.parametrize("waits", [True, False])
def test_a_connection_ends_with_its_last_reader(tmp_path: Path, waits: bool) -> None:
    """Also when the agent was killed before, and nobody says that the command has ended."""
    os.mkfifo(tmp_path / "go")
    reads = "import sys; print(sys.stdin.buffer.read(5).decode(), flush=True); open(sys.argv[1]).read()"
    with connection() as (given, peer):
        given.setblocking(waits)
        with agent(60, "", reads, str(tmp_path / "go"), stdin=given, stdout=subprocess.PIPE) as running:
            given.close()
            peer.sendall(b"there")
            assert running.stdout is not None and running.stdout.readline() == b"there\n"
            running.kill()
            running.wait()
            (tmp_path / "go").write_text("")
            assert peer.recv(1) == b""


def test_what_comes_is_read_to_its_end() -> None:
    with connection() as (given, peer):
        counts = "import sys; print(len(sys.stdin.buffer.read()))"
        with agent(60, "", counts, stdin=given, stdout=subprocess.PIPE) as running:
            given.close()
            peer.sendall(b"x" * SIZE)
            peer.shutdown(socket.SHUT_WR)
            assert running.communicate(timeout=WAIT)[0] == b"%d\n" % SIZE
