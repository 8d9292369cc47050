"""Several hosts at one look: this one by its sockets, and by a real ssh to a real server, and one that is not there."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import libraries
from framework.internet import ECHO, OTHER
from framework.machine import STOCKADE, Machine, Running, wait_for
from framework.policy import http, whole
from stockade import __version__

pytestmark = pytest.mark.client("curl", "ssh")
SERVER = Path(__file__).parents[1] / "framework/programs/ssh_server.py"
ASYNCSSH = "asyncssh==2.24.1"
ASK = f"curl -sS -o /dev/null https://{ECHO}/; curl -sS https://{OTHER}/; touch asked; while [ ! -e stop ]; do sleep 0.1; done"
_numbers = itertools.count(1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the options by which ssh knows it."""
    try:
        site = libraries.python(ASYNCSSH)
    except RuntimeError as error:
        pytest.skip(str(error))
    words = [libraries.PYTHON, str(SERVER), str(tmp_path)]
    with subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(site)}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        options = (f"UserKnownHostsFile={tmp_path}/known_hosts", f"IdentityFile={tmp_path}/client", "IdentitiesOnly=yes")
        yield f"ssh://root@127.0.0.1:{port}", [word for option in options for word in ("--ssh-option", option)]
        process.terminate()


def start(machine: Machine, policy: str) -> tuple[str, Running, Path]:
    name, room = f"fleet-{os.getpid()}-{next(_numbers)}", machine.room()
    return name, machine.start(["sh", "-c", ASK], policy=policy, options=["--name", name], room=room), room


def fleet(*words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    ended = subprocess.run([STOCKADE, "fleet", "status", *words, "-o", "json"], capture_output=True, text=True, check=False)
    return ended, json.loads(ended.stdout)


@pytest.mark.network
def test_hosts_are_asked_and_compared(machine: Machine, server: tuple[str, list[str]], tmp_path: Path) -> None:
    address, options = server
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        hosts = tmp_path / "hosts"
        hosts.write_text(f"# two ways to one machine\nhere local\nthere {address}\ngone ssh://root@127.0.0.1:{nobody.getsockname()[1]}\n")
        rule = http("curl", ECHO)
        one, first, room_of_first = start(machine, whole(rule, allow=["sh", "curl", "touch", "sleep"]))
        two, second, room_of_second = start(
            machine, whole(rule | {"method": {"allow": ["GET", "POST"]}}, allow=["sh", "curl", "touch", "sleep"])
        )
        rooms = (room_of_first, room_of_second)
        with first, second:
            for room, running in zip(rooms, (first, second), strict=True):
                wait_for((room / "work/asked").exists, "the requests", 60, running)
            ended, told = fleet(str(hosts), *options, "--command", shlex.quote(str(STOCKADE)))
            text = subprocess.run([STOCKADE, "fleet", "status", "local"], capture_output=True, text=True, check=False).stdout
            for room in rooms:
                (room / "work/stop").touch()
    assert ended.returncode == 1, ended
    here, there, gone = told["hosts"]
    assert here["node"]["version"] == there["node"]["version"] == __version__, told
    for node in (here["node"], there["node"]):
        ours = {each["name"]: each for each in node["sandboxes"] if each["name"] in (one, two)}
        assert {each["policy"] for each in ours.values()} == {"test"} and {each["generation"] for each in ours.values()} == {1}
        assert len({each["policy_sha256"] for each in ours.values()}) == 2
        for each in ours.values():
            assert each["denied"] >= 1 and any(reason.startswith("no_rule × ") for reason in each["refused"]), each
    assert gone["node"] is None and "refused" in gone["why"]
    kinds = {(finding["kind"], finding["host"]) for finding in told["findings"]}
    assert ("unreached", "gone") in kinds and {("policy", "here"), ("policy", "there")} <= kinds, told["findings"]
    assert one in text and two in text and "no_rule x " in text


@pytest.mark.network
def test_a_server_whose_key_is_not_known_is_told_nothing(server: tuple[str, list[str]], tmp_path: Path) -> None:
    address, options = server
    (tmp_path / "known_hosts").write_text("")
    ended, told = fleet(address, *options)
    assert ended.returncode == 1 and told["hosts"][0]["node"] is None, told
    assert [finding["kind"] for finding in told["findings"]] == ["unreached"]


def test_mistakes_in_a_list_are_located(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("gpu-1 ssh://-oProxyCommand=true\ngpu-1\nbox! local\nhere local\nhere local\n")
    ended = subprocess.run([STOCKADE, "fleet", "status", "hosts"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert [line for line in ended.stderr.splitlines() if ": " in line and "hosts:" in line] == [
        "stockade: hosts:1:7: `ssh://-oProxyCommand=true` is no address of a host [fleet]",
        "hosts:2:1: a line has a name and an address, and this one has 1 words [fleet]",
        "hosts:3:1: `box!` is no name [fleet]",
        "hosts:5:1: another host is called `here` [fleet]",
    ]
