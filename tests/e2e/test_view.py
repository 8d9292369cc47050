"""What a sandbox shows, and Landlock behind it: what is not shown is absent, and what is shown can be reached as far as the plan says."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from framework.lacking import lacking
from framework.machine import Machine
from framework.policy import whole
from stockade.sandbox import landlock

pytestmark = pytest.mark.client("/usr/bin/python3")
POLICY = whole(allow=["python3", "sh", "cat", "ls", "tee", "true"])


def reach(machine: Machine, inside: dict[str, str], *attempts: str, policy: str = POLICY, room: Path | None = None) -> dict[str, str]:
    """What became of each WHAT:PATH, tried by reach.py."""
    room = room or machine.room()
    (room / "work/reach.py").write_text(inside["reach.py"])
    result = machine.run(["python3", "reach.py", *attempts], policy=policy, room=room)
    assert result.status == 0, result
    return dict(json.loads(result.stdout))


def test_landlock_is_on_record(machine: Machine) -> None:
    """In this kernel's newest ABI; where there is none, a policy must have said that it may be missing."""
    version = landlock.abi()
    policy = POLICY if version else whole(allow=["true"], best_effort=["landlock"])
    [started] = machine.run("true", policy=policy).select(reason="started")
    assert started["detail"]["landlock"] == (f"abi {version}" if version else "missing, best effort")


@pytest.mark.skipif(landlock.abi() < 5, reason="this kernel's Landlock knows no ioctl on devices")
def test_landlock_lets_through_what_work_needs(machine: Machine, inside: dict[str, str]) -> None:
    """And nothing else. /dev/null answers an ioctl with EACCES, which no other layer would do: the rules are in force.

    What the mounts refuse is EROFS, before Landlock is asked; tests/unit/sandbox/test_landlock.py has the rules without the mounts.
    """
    room = machine.room()
    (room / "work/below").mkdir()
    (room / "work/file").write_text("text")
    found = reach(
        machine,
        inside,
        *("read:/etc/passwd", "read:/proc/self/status", "list:/", "list:/usr", "list:/home", "write:/dev/null", "read:/dev/zero"),
        *("make:made", "make:/tmp/made", "make:/dev/shm/made", "truncate:file", "socket:named", "link:file", "move:file"),
        *("write:/proc/self/comm", "run:/etc/passwd", "character:null", "make:/made", "make:/dev/made", "ioctl:/dev/null"),
        room=room,
    )
    refused = {word: said for word, said in found.items() if said != "done"}
    assert refused.pop("character:null") in ("EACCES", "EPERM")
    assert refused.pop("write:/proc/self/comm") == refused.pop("make:/made") == "EROFS"
    assert refused == dict.fromkeys(["run:/etc/passwd", "make:/dev/made", "ioctl:/dev/null"], "EACCES"), found


def test_a_kernel_without_landlock_is_refused_unless_the_policy_says_it_may_be_missing(machine: Machine) -> None:
    """The kernel is this one behind a filter: landlock_create_ruleset answers ENOSYS, as it does before 5.13."""
    policy = whole(allow=["true"])
    result = machine.run("true", policy=policy, through=lacking("landlock_create_ruleset"))
    assert result.status == 125 and "no Landlock" in result.stderr and "best_effort: [landlock]" in result.stderr, result
    assert not result.records
    result = machine.run("true", policy=whole(allow=["true"], best_effort=["landlock"]), through=lacking("landlock_create_ruleset"))
    assert result.status == 0, result
    [started] = result.select(reason="started")
    assert started["detail"]["landlock"] == "missing, best effort"


def test_what_is_the_hosts_is_absent(machine: Machine, inside: dict[str, str]) -> None:
    """Not merely forbidden: ENOENT, by its own path and by every way that /proc offers. Each is there on the host."""
    room = machine.room()
    secret = room / "beside/secret"
    secret.parent.mkdir()
    secret.write_text("secret")
    control = Path("/run/stockade")
    hosts = [*filter(Path.exists, map(Path, ("/root", "/home", "/var/lib", "/var/log", "/var/cache", "/srv", "/boot", "/sys", "/mnt")))]
    absent = [str(secret), str(room / "policy.yaml"), str(room / "audit.jsonl"), str(control), "/run/docker.sock", "/var/run/docker.sock"]
    absent += ["/root/.ssh", "/etc/ssh", "/etc/stockade", "/etc/shadow", "/etc/ssl/private", "/etc/machine-id", "/dev/kmsg", "/dev/mem"]
    absent += [
        "/dev/loop0",
        "/sys/fs/cgroup",
        "/proc/self/root/root",
        "/proc/1/root",
        f"/proc/self/root{secret}",
        f"/proc/self/cwd/../..{secret}",
    ]
    words = [f"list:{path}" for path in [*hosts, "/run", "/proc/self/fd", "/proc/1/fd", "/proc/1/cwd"]] + [
        f"read:{path}" for path in absent
    ]
    socket_path = Path("/run/stockade-test.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(socket_path))
        try:
            found = reach(machine, inside, *words, f"read:{socket_path}", room=room)
        finally:
            socket_path.unlink()
    assert found.pop("list:/run") == found.pop("list:/proc/self/fd") == "done"
    assert found.pop("list:/proc/1/fd") in ("EACCES", "EPERM")  # init shows nothing of itself
    assert found.pop("list:/proc/1/cwd") in ("EACCES", "EPERM")
    assert found.pop("read:/proc/1/root") in ("EACCES", "EPERM")
    assert found.pop("list:/home") == "done"  # its own is in it, and no other
    assert set(found.values()) == {"ENOENT"}, found


def test_what_proc_tells_of_the_host(machine: Machine) -> None:
    """Neither mounts nor descriptors lead to what is not shown, or say its name."""
    room = machine.room()
    script = "cat /proc/self/mountinfo; ls -l /proc/self/fd /dev/fd/; cat /proc/self/cgroup; ls /home"
    result = machine.run(["sh", "-c", script], policy=POLICY, room=room)
    assert str(room / "work") in result.stdout  # the workdir keeps its name
    told = result.stdout.replace(str(room / "work"), "")
    for word in (str(room), "audit.jsonl", "policy.yaml", "/root/", "sandbox-", "listeners-", "bpf", "socket:", "anon_inode"):
        assert word not in told, result
    descriptors = [line for line in told.splitlines() if " -> " in line and not line.endswith(("pipe:", "/fd"))]
    assert all(line.split(" -> ")[1].startswith(("/dev/null", "pipe:", "/proc/")) for line in descriptors), result
    assert told.splitlines()[-1] == "agent"


def test_the_standard_streams_have_names(machine: Machine) -> None:
    """/dev/stdin leads to a node of the host's own /dev when a daemon starts the agent: a rule for that file, and for no path, lets it."""
    result = machine.run(["sh", "-c", "cat </dev/stdin && echo read; echo x | cat /dev/stdin | tee /dev/null"], policy=POLICY)
    assert (result.status, result.stdout) == (0, "read\nx\n"), result
