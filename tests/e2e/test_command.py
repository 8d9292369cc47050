"""`stockade run` as a command: its exit status, what it refuses to start with, and what a command finds around itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from framework.internet import ECHO
from framework.machine import BUNDLE, Machine
from framework.policy import bare, http, whole

POLICY = bare(http("curl", ECHO))


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)])
def test_the_exit_status_is_the_commands_own(machine: Machine, script: str, status: int) -> None:
    result = machine.run(["sh", "-c", script], policy=POLICY)
    assert result.status == status, result


def test_a_command_that_is_not_there_is_127(machine: Machine) -> None:
    result = machine.run(["no-such-command"], policy=POLICY)
    assert result.status == 127, result
    assert "no-such-command" in result.stderr


def test_a_command_that_cannot_be_executed_is_126(machine: Machine) -> None:
    result = machine.run(["/etc/passwd"], policy=POLICY)
    assert result.status == 126, result


def test_a_policy_that_does_not_load_starts_nothing(machine: Machine) -> None:
    room = machine.room()
    result = machine.run("touch ran", policy="- name: x\n  binaries: {allow: [curl]}\n", room=room)
    assert result.status == 125, result
    assert f"{room}/policy.yaml:2:" in result.stderr, result
    assert not (room / "work/ran").exists()


def test_a_policy_that_the_sandbox_could_write_is_refused(machine: Machine) -> None:
    room = machine.room({"policy.yaml": POLICY})
    result = machine.run("touch ran", policy=room / "work/policy.yaml", room=room)
    assert result.status == 125, result
    assert not (room / "work/ran").exists()


def test_without_a_policy_the_default_is_named(machine: Machine) -> None:
    result = machine.run(["sh", "-c", "echo ran"])
    assert (result.status, result.stdout) == (0, "ran\n"), result
    assert "openclaw-sandbox.yaml" in result.stderr, result


def test_standard_streams_are_the_callers(machine: Machine) -> None:
    result = machine.run(["sh", "-c", "echo to stdout; echo to stderr >&2; cat"], policy=whole(http("curl", ECHO), allow=["sh", "cat"]))
    assert result.stdout == "to stdout\n", result
    assert "to stderr\n" in result.stderr, result


@pytest.mark.client("/usr/bin/python3")
def test_what_a_command_finds_around_itself(machine: Machine, inside: dict[str, str]) -> None:
    """No privilege, no device but lo, no secret of the caller's, no process of the host's, nowhere to write but workdir and /tmp."""
    caller = {"AWS_SECRET_ACCESS_KEY": "sesame", "LD_PRELOAD": "", "FOO": "bar"}
    result = machine.run("/usr/bin/python3 around.py", policy=bare(http("python3", ECHO)), env=caller, files=inside)
    assert result.status == 0, result
    found = json.loads(result.stdout)
    assert found["uid"] not in (0, 65534)
    assert found["gid"] not in (0, 65534)
    assert 0 not in found["groups"]
    assert set(found["capabilities"]) == {"0" * 16}
    assert (found["no_new_privs"], found["seccomp"]) == ("1", "2")
    assert found["devices"] == ["lo"]
    assert not caller.keys() & found["environment"].keys()
    assert found["processes"] < 5
    assert not found["cgroups"]
    assert {path for path, said in found["writes"].items() if said == "written"} <= {"here", "/tmp/there", "/dev/shm/stockade-test"}
    assert found["writes"]["here"] == found["writes"]["/tmp/there"] == "written"
    assert not any(found["seen"].values()), found["seen"]


@pytest.mark.client("/usr/bin/python3")
def test_clients_are_told_of_the_sandboxs_ca_and_the_host_is_not(machine: Machine, inside: dict[str, str]) -> None:
    before = BUNDLE.stat().st_mtime_ns
    result = machine.run("/usr/bin/python3 around.py", policy=bare(http("python3", ECHO)), files=inside)
    told = json.loads(result.stdout)["certificates"]
    names = {
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "CARGO_HTTP_CAINFO",
        "DENO_CERT",
    }
    assert names <= told.keys(), result
    assert all("BEGIN CERTIFICATE" in text and "PRIVATE KEY" not in text for text in told.values())
    assert BUNDLE.stat().st_mtime_ns == before


def test_nothing_is_left_behind(machine: Machine) -> None:
    """No namespace, link, cgroup or pinned program of a run outlives it."""

    def traces() -> set[Path]:
        mounts = [
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line or " - bpf " in line
        ]
        return {path for mount in mounts for path in Path(mount).rglob("*stockade*")} | set(Path("/sys/class/net").iterdir())

    machine.run("true", policy=POLICY)
    before = traces()
    result = machine.run("true", policy=POLICY)
    assert result.status == 0, result
    assert traces() <= before
