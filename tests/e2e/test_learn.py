"""A run that is only observed, the policy learnt of it, and the same commands under that policy, live."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from framework.internet import ECHO, OTHER, RAW, RAW_PORT
from framework.machine import STOCKADE, Machine
from framework.policy import http, whole

PYTHON = f"import urllib.request as u; print(u.urlopen('https://{ECHO}/python').status)"
RAW_TALK = f"import socket; s = socket.create_connection(('{RAW}', {RAW_PORT})); s.sendall(b'hello'); print(s.recv(64) != b'')"
SCRIPT = "\n".join(
    [
        f"curl -sS -o /dev/null -w '%{{http_code}}\\n' https://{ECHO}/v1/items/42",
        f"curl -sS -o /dev/null -w '%{{http_code}}\\n' -X POST https://{ECHO}/v1/items",
        f'python3 -c "{PYTHON}"',
        f'python3 -c "{RAW_TALK}"',
    ]
)


def curl(method: str, path: str) -> str:
    return f"curl -sS -o /dev/null -w '%{{http_code}}\\n' -X {method} https://{ECHO}{path}"


@pytest.mark.client("curl", "python3")
def test_what_was_observed_passes_and_nothing_else(machine: Machine, tmp_path: Path) -> None:
    # The tests' internet lies in private addresses, and observing opens none: a host that is named may lie there.
    named = http("curl", ECHO, paths=["/nothing"])
    observed = machine.run(["sh", "-c", SCRIPT], policy=whole(named, allow=["sh"], mode="observe"))
    learnt = tmp_path / "learnt.yaml"
    line: list[str | Path] = [STOCKADE, "policy", "learn", observed.audit, "--name", "learnt", "--out", learnt]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done, observed)

    result = machine.run(["sh", "-c", SCRIPT], policy=learnt.read_text())
    assert result.stdout.split() == ["200", "200", "200", "True"], result
    # libraries try what they can do without: what the kernel refuses them by itself is no matter of the policy learnt
    assert not [record for record in result.select(decision="deny") if record["action"] not in ("file", "syscall")], result

    others = [("GET", "/v1/items"), ("POST", "/v1/items/42"), ("GET", "/python"), ("GET", "/v1/items/42/x")]
    script = "\n".join([*(curl(method, path) for method, path in others), f"curl -s https://{OTHER}/", "echo $?", "date +%s", "true"])
    result = machine.run(["sh", "-c", script], policy=learnt.read_text())
    assert result.stdout.split() == ["403", "403", "403", "403", "6"], result  # and no date
    for method, path in others:
        assert result.select(action="http", decision="deny", method=method, path=path, host=ECHO, reason="no_rule"), (method, path, result)
    assert result.select(action="exec", decision="deny", binary="date"), result
