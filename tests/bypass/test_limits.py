"""What SECURITY.md says is not held, shown: a limit that is no longer one fails here, and then the page and the table must say so."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from bypass import battery, table
from bypass.battery import Performed
from framework.internet import ECHO, H1, OTHER
from framework.machine import Machine
from framework.outside import PORT, Outside
from framework.policy import relay, whole

FACTS = {"echo": ECHO, "other": OTHER, "passthrough": H1}
ROWS = [row for row in table.rows() if row.limit]
pytestmark = pytest.mark.client(battery.PYTHON)


def daemon(room: Path, outside: Outside) -> None:
    """Listens in the workdir: says what it is told to say outside, or gives away a connection to there."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(room / "work/daemon.sock"))
    (room / "work/daemon.sock").chmod(0o777)
    listener.listen()

    def serve() -> None:
        while True:
            caller, _ = listener.accept()
            with contextlib.suppress(OSError), caller, socket.create_connection((outside.addresses.v4, PORT)) as away:
                word, _, text = caller.recv(1000).partition(b" ")
                if word == b"say":
                    away.sendall(text)
                    caller.sendall(away.recv(10))
                else:
                    socket.send_fds(caller, [b"1"], [away.fileno()])
                    caller.recv(1)

    threading.Thread(target=serve, daemon=True).start()


@pytest.fixture(scope="module")
def performed(machine: Machine, outside: Outside) -> Performed:
    room = machine.room()
    daemon(room, outside)
    policy = whole(relay("python3", H1, tls="passthrough"), allow=["python3"])
    return battery.inside_run(machine, "conceded", FACTS, phase="user", policy=policy, room=room)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id, marks=pytest.mark.attack(row.id)) for row in ROWS])
def test_it_gets_out_as_documented(row: table.Row, performed: Performed, outside: Outside) -> None:
    assert battery.got_out(row, performed, outside), f"{row.id} is held by now: it says {performed.outcomes[row.id]!r}"
