"""The agent's own listeners share lo with the sandbox: no spelling of their address reaches them but through the redirect."""

from __future__ import annotations

import json
import socket

import pytest

from framework.internet import ECHO
from framework.machine import Machine
from framework.policy import bare, http
from stockade.kernel.abi import Network

pytestmark = pytest.mark.client("/usr/bin/python3")

NETWORK = Network()
PORTS = (NETWORK.inspect_port, NETWORK.relay_port)
AGENT = (str(NETWORK.agent4), str(NETWORK.agent6), f"::ffff:{NETWORK.agent4}")
LOOPBACK = ("127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0")


def attempts(*kinds: str, addresses: tuple[str, ...]) -> list[str]:
    return [f"{kind},{address},{port}" for kind in kinds for address in addresses for port in PORTS]


def test_the_agents_address_is_refused(machine: Machine, inside: dict[str, str]) -> None:
    words = attempts("tcp", "udp", "udp-connected", addresses=AGENT)
    result = machine.run(["/usr/bin/python3", "attempt.py", *words], policy=bare(http("python3", ECHO)), files=inside)
    assert json.loads(result.stdout) == dict.fromkeys(words, "EPERM"), result
    denied = result.select(action="connect", decision="deny", reason="agent_address", binary="python3")
    assert len(denied) == len(words), result


def test_every_local_spelling_of_its_ports_is_dead(machine: Machine, inside: dict[str, str]) -> None:
    """The listeners are on an address of their own; what the sandbox calls loopback never becomes it."""
    words = attempts("tcp", "fastopen", addresses=LOOPBACK)
    result = machine.run(["/usr/bin/python3", "attempt.py", *words], policy=bare(http("python3", ECHO)), files=inside)
    assert set(json.loads(result.stdout).values()) <= {"EPERM", "ECONNREFUSED"}, result
    for address in {"127.0.0.1", "127.8.8.8", "::1"}:
        assert result.select(action="connect", address=address, port=PORTS[0], binary="python3"), result


def test_fast_open_past_the_hooks_gets_no_answer(machine: Machine, inside: dict[str, str]) -> None:
    """sendto(MSG_FASTOPEN) passes connect4/6: whatever then becomes of the SYN, nobody answers what it carried."""
    words = attempts("fastopen", addresses=AGENT)
    result = machine.run(["/usr/bin/python3", "attempt.py", *words], policy=bare(http("python3", ECHO)), files=inside)
    assert "answered" not in json.loads(result.stdout).values(), result
    assert [record for record in result.select(decision="deny") if record["action"] in ("connect", "lifecycle")], result


def test_its_address_and_ports_cannot_be_taken(machine: Machine, inside: dict[str, str]) -> None:
    words = attempts("bind", addresses=(*AGENT, "0.0.0.0", "::"))
    result = machine.run(["/usr/bin/python3", "attempt.py", *words], policy=bare(http("python3", ECHO)), files=inside)
    assert json.loads(result.stdout) == dict.fromkeys(words, "EPERM"), result
    assert len(result.select(action="inbound", decision="deny", reason="bind_refused", binary="python3")) == len(words), result


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
