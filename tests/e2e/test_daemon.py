"""A daemon serves the sandboxes of a machine: what each of them may, who may ask it what, and what is left when they have ended."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from framework.daemon import PYTHON, SETTINGS, SOCKET, TRAIL, Daemon, allowed, asked, fetch, is_nobodys, name_of
from framework.internet import ECHO, H1
from framework.machine import STOCKADE, read_records, select, wait_for
from framework.terminal import Terminal
from stockade.sandbox.cgroup import HOSTED, mounted
from stockade.service.control import running

pytestmark = [pytest.mark.client("/usr/bin/python3"), pytest.mark.client("bash")]


def test_two_sandboxes_are_each_held_to_their_own_policy(serving: Daemon, request: pytest.FixtureRequest) -> None:
    first, second = name_of(request, 1), name_of(request, 2)
    policies = {first: allowed(ECHO), second: allowed(H1)}
    for name, policy in policies.items():
        for host in (ECHO, H1):
            done = serving.run(fetch(host), policy, name)
            may = (name == first) == (host == ECHO)
            assert (done.returncode == 0, done.stdout == "200\n") == (may, may), (name, host, done)
    for name, host in ((first, ECHO), (second, H1)):
        own = [record for record in serving.records() if record["sandbox"]["name"] == name]
        assert [record["decision"] for record in select(own, action="http")] == ["allow"]
        assert {record["destination"]["host"] for record in select(own, action="http")} == {host}
        assert [record["reason"] for record in select(own, action="lifecycle")] == ["started", "stopped"] * 2
        assert select(own, action="dns", decision="deny")
    verify = subprocess.run([STOCKADE, "audit", "verify", TRAIL], capture_output=True, text=True)
    assert verify.returncode == 0, verify


def test_status_streams_and_words_come_back(serving: Daemon, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name = name_of(request)
    done = serving.run(["sh", "-c", "echo out; echo err >&2; exit 7"], allowed(ECHO), name)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    done = serving.run(["/usr/bin/id"], allowed(ECHO).replace("exec:", "exec:\n  deny: [id]"), name)
    assert done.returncode == 126 and "the policy does not let it run" in done.stderr, done
    done = serving.run(["/usr/bin/true"], "version: 1\nnonsense: true\n", name)
    assert done.returncode == 125 and "policy.yaml:2:1" in done.stderr, done
    room = serving._machine.room()
    line = serving.line(room, allowed(ECHO), name, ["cat"])
    with (tmp_path / "in").open("w+") as given, (tmp_path / "out").open("w+") as taken:
        given.write("from a file\n" * 9999)
        given.seek(0)
        assert subprocess.run(line, cwd=room, stdin=given, stdout=taken, timeout=60).returncode == 0
    assert (tmp_path / "out").read_text() == "from a file\n" * 9999


def test_a_signal_reaches_the_command(serving: Daemon, request: pytest.FixtureRequest) -> None:
    room = serving._machine.room()
    script = "trap 'echo told; exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    line = serving.line(room, allowed(ECHO), name_of(request), ["bash", "-c", script])
    with subprocess.Popen(line, cwd=room, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGUSR1)
        assert client.stdout.readline() == "told\n"
        assert client.wait(30) == 9


def test_a_signal_that_the_client_was_started_to_ignore_is_not_passed_on(serving: Daemon, request: pytest.FixtureRequest) -> None:
    """As under nohup. The next signal comes after it, so it would have come."""
    room = serving._machine.room()
    script = "trap 'echo hung up' HUP; trap 'echo told; exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    line = ["nohup", *serving.line(room, allowed(ECHO), name_of(request), ["bash", "-c", script])]
    with subprocess.Popen(line, cwd=room, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGHUP)
        client.send_signal(signal.SIGUSR1)
        assert client.stdout.readline() == "told\n"
        assert client.wait(30) == 9


def test_a_terminal_is_the_commands_own(serving: Daemon, request: pytest.FixtureRequest) -> None:
    room = serving._machine.room()
    line = serving.line(room, allowed(ECHO), name_of(request), ["bash", "--norc", "--noprofile", "--noediting", "-i"])
    with Terminal(line, room / "work", 33, 77) as terminal:
        greeting = terminal.ask("PS1=")
        assert "job control" not in greeting and "terminal process group" not in greeting
        assert terminal.ask("stty size") == "33 77\n"
        terminal.resize(41, 99)
        wait_for(lambda: terminal.ask("stty size") == "41 99\n", "the new size, which the client passes on in its own time")
        terminal.type("echo begun; sleep 600\n")
        terminal.wait_for("begun\r\n")
        wait_for(functools.partial(has_terminal, "sleep"), "the job to have the terminal")
        terminal.type("\x03")
        assert terminal.ask("echo status $?").endswith("status 130\n")
        terminal.type("exit 5\n")
        assert terminal.process.wait(30) == 5


def has_terminal(command: str) -> bool:
    """Whether a process of this name, in a daemon's sandbox, is in the foreground of its terminal: who is gets the keyboard's signals."""
    for procs in mounted().glob(f"{HOSTED}-*/sandbox-*/cgroup.procs"):
        for pid in procs.read_text().split():
            with contextlib.suppress(OSError):
                name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
                fields = rest.split()
                if name == command and fields[2] == fields[5]:  # pgrp, tpgid
                    return True
    return False


CYCLES = int(os.environ.get("STOCKADE_CYCLES", "12"))  # the issue's own number is 1,000


def standing(serving: Daemon, name: str) -> dict[str, int]:
    """How much there is of what sandboxes of this daemon are made of. name: begins theirs. Others on the machine may have their own."""
    children = [path.read_text().split() for path in Path(f"/proc/{serving.pid}/task").glob("*/children")]
    processes = [Path(f"/proc/{pid}") for pid in (serving.pid, *(pid for each in children for pid in each))]
    opened = [link for process in processes for path in (process / "fd").iterdir() if (link := pointed(path))]
    places = {link for process in processes for path in (process / "ns").iterdir() if (link := pointed(path))}
    return {
        "cgroups": len(list(Path("/sys/fs/cgroup").glob(f"**/{HOSTED}-*/sandbox-*"))),
        "namespaces": len(
            places.union(link for link in opened if re.fullmatch(r"[a-z_]+:\[\d+\]", link) and not link.startswith(("socket", "pipe")))
        ),
        "mounts": len(Path(f"/proc/{serving.pid}/mountinfo").read_text().splitlines()),
        "pins": len(list((SETTINGS.run / "bpf").glob("daemon-*/*"))),
        "sockets": len(list(SETTINGS.control.glob(f"{name}*"))),
        "slots": sum(is_nobodys(path) for path in (SETTINGS.run / "slots").iterdir()),
        "processes": len(processes),
        "descriptors": len(opened),
    }


def pointed(path: Path) -> str:
    """Where a link leads; nowhere when it is gone by now."""
    with contextlib.suppress(FileNotFoundError):
        return str(path.readlink())
    return ""


def grown(before: dict[str, int], now: dict[str, int]) -> list[str]:
    return [what for what, count in now.items() if count > before[what]]


def test_nothing_is_left_of_those_that_ended(serving: Daemon, request: pytest.FixtureRequest) -> None:
    """Of those that ended as they should, of one that was not let run, of one that was killed, and of one that left others behind."""
    name = name_of(request)
    serving.run(fetch(ECHO), allowed(ECHO), name)
    wait_for(lambda: not serving.node()["sandboxes"], "the end of what ran before")
    before, entries = standing(serving, name), serving.node()["entries"]
    for number in range(CYCLES):
        assert serving.run(fetch(ECHO), allowed(ECHO), f"{name}-{number}").stdout == "200\n"
    assert serving.run(["no-such-command"], allowed(ECHO), f"{name}-missing").returncode == 127
    assert serving.run(["/usr/bin/true"], "version: 1\nnonsense: true\n", f"{name}-refused").returncode == 125
    assert serving.run(["sh", "-c", "sleep 600 & sleep 600 & exit 3"], allowed(ECHO), f"{name}-others").returncode == 3
    room = serving._machine.room()
    with subprocess.Popen(serving.line(room, allowed(ECHO), f"{name}-killed", ["sleep", "600"]), cwd=room) as client:
        wait_for(lambda: f"{name}-killed" in running(SETTINGS.control), "the sandbox")
        killed = subprocess.run([STOCKADE, "sandbox", "kill", f"{name}-killed"], capture_output=True, text=True, timeout=60)
        assert killed.returncode == 0, killed
        assert client.wait(30) == 137
    wait_for(lambda: serving.node()["entries"] == entries, f"{entries}, and it is {serving.node()['entries']}")
    wait_for(lambda: grown(before, standing(serving, name)) == [], f"no more than {before}, and it is {standing(serving, name)}")
    assert not any(entries.values()), entries


def test_who_may_ask_what(serving: Daemon) -> None:
    as_nobody = (
        "import json, os, socket, sys\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        f"sock.connect({str(SOCKET)!r})\n"
    )
    done = subprocess.run([PYTHON, "-c", as_nobody], capture_output=True, text=True)
    assert "PermissionError" in done.stderr, done
    assert asked({"v": 1, "verb": "nonsense"})["error"]["code"] == "no_verb"
    assert asked({"v": 9, "verb": "node"})["error"]["code"] == "version"
    assert asked({"v": 1, "verb": "run", "arguments": {"command": 3}})["error"]["code"] == "bad_request"
    second = subprocess.run([STOCKADE, "daemon"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 2 and "daemon_running" in second.stderr
    assert serving.node()["pid"] == serving.pid


def test_its_trail_is_no_sandboxes(serving: Daemon, request: pytest.FixtureRequest) -> None:
    done = serving.run(["cat", TRAIL], allowed(ECHO), name_of(request))
    assert done.returncode != 0 and done.stdout == ""
    with contextlib.suppress(ProcessLookupError):
        assert read_records(TRAIL)


def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    unit = tmp_path / "stockade.service"
    printed = subprocess.run([STOCKADE, "daemon", "--unit"], capture_output=True, text=True, check=True).stdout
    unit.write_text(printed)
    assert f"ExecStart={STOCKADE} daemon\n" in printed
    read = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert read.returncode == 0 and "Unknown" not in read.stderr, read
    rated = subprocess.run(["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True)
    level = float(rated.stdout.rpartition(": ")[2].split()[0])
    assert level <= 7.4, rated.stdout  # what it cannot give up, and why, is said in the unit


def test_in_the_background_it_leaves_the_terminal_alone(serving: Daemon, request: pytest.FixtureRequest) -> None:
    """A client that touched the terminal from there would be stopped, and the command with it in the dark."""
    room = serving._machine.room()
    line = shlex.join(serving.line(room, allowed(ECHO), name_of(request), ["sh", "-c", "echo from inside; sleep 1; echo and over"]))
    with Terminal(["bash", "--norc", "--noprofile", "--noediting", "-i"], room / "work") as terminal:
        terminal.ask("PS1=")
        terminal.type(f"{line} &\n")
        terminal.wait_for("and over\r")  # the line as it was typed goes on otherwise
        assert "Stopped" not in terminal.shown
        assert "status 0" in terminal.ask("wait; echo status $?")
        terminal.type("exit\n")
        assert terminal.process.wait(30) == 0
