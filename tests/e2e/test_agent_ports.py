"""The agent's own listeners share lo with the sandbox: no spelling of their address reaches them but through the redirect."""

from __future__ import annotations

import json
import socket

import pytest

from framework.internet import ECHO
from framework.machine import Machine
from framework.policy import bare, http

pytestmark = pytest.mark.client("/usr/bin/python3")

PORTS = (15001, 15002)
SPELLINGS = (
    "198.18.0.1",
    "fd57:a11d::1",
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:198.18.0.1",
    "::ffff:0.0.0.0",
)


def test_every_spelling_is_refused(machine: Machine, inside: dict[str, str]) -> None:
    attempts = [f"{kind},{address},{port}" for kind in ("tcp", "udp", "fastopen") for address in SPELLINGS for port in PORTS]
    result = machine.run(["/usr/bin/python3", "attempt.py", *attempts], policy=bare(http("python3", ECHO)), files=inside)
    said = json.loads(result.stdout)
    assert {word for word, answer in said.items() if answer in ("answered", "closed", "silence")} == set(), result
    assert {word: answer for word, answer in said.items() if word.startswith("tcp") and answer != "EPERM"} == {}
    assert len(result.select(action="connect", decision="deny", reason="agent_address", binary="python3")) >= len(SPELLINGS) * len(PORTS), (
        result
    )


def test_their_ports_cannot_be_taken(machine: Machine, inside: dict[str, str]) -> None:
    attempts = [f"bind,{address},{port}" for address in ("127.0.0.1", "0.0.0.0", "198.18.0.1", "::1", "::") for port in PORTS]
    result = machine.run(["/usr/bin/python3", "attempt.py", *attempts], policy=bare(http("python3", ECHO)), files=inside)
    assert "bound" not in json.loads(result.stdout).values(), result
    assert result.select(decision="deny", reason="bind_refused", binary="python3"), result


def test_the_hosts_loopback_is_another_one(machine: Machine, inside: dict[str, str]) -> None:
    """A listener on the host's 127.0.0.1 hears nothing of a sandbox that connects to 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        policy = bare(http("python3", ECHO))
        result = machine.run(
            ["/usr/bin/python3", "attempt.py", f"tcp,127.0.0.1,{port}", f"tcp,::ffff:127.0.0.1,{port}"], policy=policy, files=inside
        )
        assert set(json.loads(result.stdout).values()) <= {"EPERM", "ECONNREFUSED"}, result
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_listener_of_the_sandboxs_own_is_reached_and_recorded(machine: Machine) -> None:
    code = (
        "import socket, threading\n"
        "listener = socket.create_server(('127.0.0.1', 8123))\n"
        "client = socket.create_connection(('127.0.0.1', 8123), 5)\n"
        "server, _ = listener.accept()\n"
        "client.sendall(b'hello'); print(server.recv(10).decode())\n"
    )
    result = machine.run(["/usr/bin/python3", "-c", code], policy=bare(http("python3", ECHO)))
    assert result.stdout.strip() == "hello", result
    assert result.select(action="connect", decision="allow", reason="local_listener", port=8123, binary="python3"), result
