"""`stockade run` as a command: its exit status, what it refuses to start with, and what a command finds around itself."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from framework.internet import ECHO
from framework.machine import BUNDLE, STOCKADE, Machine
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
        devices = {path for path in Path("/sys/class/net").iterdir() if not path.name.startswith("stocktest")}  # of other tests' internets
        return {path for mount in mounts for path in Path(mount).rglob("*stockade*")} | devices

    machine.run("true", policy=POLICY)
    before = traces()
    result = machine.run("true", policy=POLICY)
    assert result.status == 0, result
    assert traces() <= before


@pytest.mark.client("/usr/bin/python3")
def test_a_file_as_output_is_a_pipe_inside(machine: Machine, tmp_path: Path) -> None:
    """A descriptor of a host file would bring its mount along, where a library in it could be loaded. Output arrives in order."""
    room = machine.room()
    (room / "policy.yaml").write_text(whole(allow=["sh", "stat", "cat", "seq"]))
    script = "stat -L -c '%F' /dev/fd/0 /dev/fd/1 /dev/fd/2; cat; seq 1 50000; echo last >&2"
    line: list[str | Path] = [
        STOCKADE,
        "run",
        "--policy",
        room / "policy.yaml",
        "--workdir",
        room / "work",
        "--audit",
        room / "audit.jsonl",
        "--",
    ]
    (tmp_path / "in").write_text("read from a file\n")
    with (tmp_path / "in").open() as given, (tmp_path / "out").open("w") as out:
        out.write("before\n")
        out.flush()
        subprocess.run(machine.wrap([*line, "sh", "-c", script]), stdin=given, stdout=out, stderr=subprocess.STDOUT, check=True)
    said = (tmp_path / "out").read_text().splitlines()
    assert said[:5] == ["before", "fifo", "fifo", "fifo", "read from a file"]
    assert said[5:] == [*map(str, range(1, 50001)), "last"]


@pytest.mark.parametrize("delay", [0.05, 0.3, 0.6, 0.9])
def test_a_signal_while_it_starts_leaves_nothing(machine: Machine, delay: float) -> None:
    """However far it has come: the command ends with the agent, or never begins."""
    with machine.start("sleep 30", policy=whole(allow=["sleep"])) as running:
        time.sleep(delay)
        running.process.terminate()
        assert running.finish(20).status in (143, -15)  # -15: before there was a handler, which a shell calls 143 too
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "stockade/root" in line]


def test_what_lies_inside_the_workdir_keeps_its_own_rights(machine: Machine) -> None:
    """A read-only path below the writable workdir stays read-only."""
    room = machine.room()
    fixed = room / "work/fixed"
    fixed.mkdir()
    (fixed / "file").write_text("as it was")
    policy = whole(allow=["sh", "cat"], filesystem={"read": [str(fixed)]})
    result = machine.run(["sh", "-c", "echo changed >fixed/file; cat fixed/file"], policy=policy, room=room)
    assert result.stdout == "as it was" and "Read-only" in result.stderr, result


def test_a_path_that_a_sandbox_could_have_replaced_is_refused(machine: Machine) -> None:
    room = machine.room()
    (room / "work/out").symlink_to("/root")
    result = machine.run("true", policy=whole(allow=["true"], filesystem={"write": [str(room / "work/out")]}), room=room)
    assert result.status == 125 and "symbolic link" in result.stderr and "Traceback" not in result.stderr, result


def test_a_policy_shown_by_a_bind_is_hidden(machine: Machine) -> None:
    room = machine.room()
    (room / "policies").mkdir()
    (room / "policies/beside").write_text("seen")
    (room / "policies/policy.yaml").write_text(whole(allow=["sh", "cat"]))
    bind = f"{room}/policies:/data:ro"
    result = machine.run(
        ["sh", "-c", "cat /data/beside; cat /data/policy.yaml"], policy=room / "policies/policy.yaml", options=["--bind", bind], room=room
    )
    assert result.stdout == "seen", result


def test_closed_standard_streams_are_nobodys_file(machine: Machine) -> None:
    """Else the next file that the agent opens would be the command's standard output."""
    room = machine.room()
    (room / "policy.yaml").write_text(whole(allow=["sh", "readlink"]))
    line = [
        str(word) for word in (STOCKADE, "run", "--policy", room / "policy.yaml", "--workdir", room / "work", "--audit", room / "audit")
    ]
    inside = ["sh", "-c", "readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 >seen"]
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line, "--", *inside]
    assert subprocess.run(machine.wrap(closing), check=False).returncode == 0
    assert (room / "work/seen").read_text().splitlines() == ["/dev/null", str(room / "work/seen"), "/dev/null"]


def test_a_script_below_what_the_sandbox_can_rename_is_refused(machine: Machine) -> None:
    """A script is known by its path: where the sandbox can move a directory of it away, another file could stand under that path."""
    room = machine.room()
    script = room / "work/tool"
    script.write_text("#!/usr/bin/python3\n")
    script.chmod(0o755)
    policy = whole(http(str(script), ECHO), allow=["true", str(script)])
    result = machine.run("true", policy=policy, room=room)
    assert result.status == 125 and "script of the policy" in result.stderr, result


def test_what_is_hidden_deep_in_the_workdir_is_refused(machine: Machine) -> None:
    room = machine.room()
    (room / "work/secrets").mkdir()
    (room / "work/secrets/key").write_text("top")
    (room / "work/key").write_text("top")
    deep = whole(allow=["cat"], filesystem={"hide": [str(room / "work/secrets/key")]})
    result = machine.run("true", policy=deep, room=room)
    assert result.status == 125 and "only what lies directly in" in result.stderr, result
    flat = whole(allow=["cat"], filesystem={"hide": [str(room / "work/key"), str(room / "work/secrets")]})
    result = machine.run("cat key secrets/key", policy=flat, room=room)
    assert "top" not in result.stdout, result
