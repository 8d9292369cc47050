"""The metrics of a machine's agents, reached for from a sandbox: by its policy's own word, and on every address the machine has."""

from __future__ import annotations

import json
import os
import urllib.request

import pytest

from bypass import battery
from framework.machine import Machine, wait_for
from framework.policy import http, relay, whole
from stockade.service.settings import Settings

pytestmark = pytest.mark.client(battery.PYTHON, "curl")
TARGETS = Settings().run / "metrics"
ATTACK = """
import json, socket, subprocess, sys
page = subprocess.run(["curl", "-sS", "-m", "5", sys.argv[1]], capture_output=True, text=True)
found = {"curl": page.stdout + page.stderr}
for name in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):
    try:
        with socket.create_connection((name, int(sys.argv[2])), 5) as sock:
            sock.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
            found[name] = sock.recv(65536).decode()
    except OSError as error:
        found[name] = repr(error)
print(json.dumps(found))
"""


def address_of(name: str) -> str:
    """Where the agent of a sandbox serves its metrics."""
    address: str = json.loads((TARGETS / f"{name}.json").read_text())[0]["targets"][0]
    return address


@pytest.mark.attack("metrics-port")
@pytest.mark.parametrize("whose", ["its own agent's", "another agent's"])
def test_no_sandbox_reads_metrics_whatever_its_policy_allows(machine: Machine, whose: str) -> None:
    """Its policy names the very port, inspected for one program and relayed for another. Outside the same request is answered."""
    name = f"metrics-{os.getpid()}-{whose[:3]}"
    waits = ["sh", "-c", "while [ ! -e stop ]; do sleep 0.1; done"]
    with machine.start(waits, policy=whole(allow=["sh", "coreutils"]), options=["--metrics", "127.0.0.1:0", "--name", name]) as other:
        wait_for((TARGETS / f"{name}.json").exists, "its metrics", running=other)
        port = int(address_of(name).rpartition(":")[2])
        if whose == "its own agent's":  # the port is known before it is its own, so that a policy can name it
            (other.audit.parent / "work/stop").touch()
            other.finish()
        else:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as control:
                assert b"stockade_build_info" in control.read(), "the control: outside the sandbox it is answered"
        inspected, relayed = http("curl", "localhost", port=[port]), relay("python3", "localhost", port=[port], protocol="tcp")
        result = machine.run(
            [battery.PYTHON, "attack.py", f"http://localhost:{port}/metrics", str(port)],
            policy=whole(inspected, relayed, allow=["curl", "python3"]),
            files={"attack.py": ATTACK},
            options=["--metrics", f"127.0.0.1:{port}"] if whose == "its own agent's" else [],
        )
        assert result.status == 0, result
        for way, answer in json.loads(result.stdout).items():
            assert "stockade_" not in answer and "200 OK" not in answer, (way, answer)
        reason = "address_refused" if whose == "its own agent's" else "upstream_error"
        [record] = result.select(action="http", binary="curl")
        assert (record["effect"], record["reason"]) == ("refuse", reason), result
        assert result.select(action="connect", binary="python3", port=port), result
        if whose == "its own agent's":
            assert len(result.select(action="connect", decision="deny", reason="address_refused", port=port)) >= 2, result
        else:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
                turned_away = [line for line in page.read().decode().splitlines() if 'code="peer"' in line]
            assert turned_away and float(turned_away[0].split()[-1]) >= 3, turned_away
            (other.audit.parent / "work/stop").touch()
            other.finish()
