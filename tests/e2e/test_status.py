"""What `stockade status` and `stockade fleet node` say of a machine: to root, to the group that may look, and of who has no agent."""

from __future__ import annotations

import grp
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from framework import containers
from framework.containers import Place, attached
from framework.internet import ECHO
from framework.machine import STOCKADE, Machine, Running, wait_for
from framework.policy import http, whole
from stockade import __version__
from stockade.daemon.front import GROUP
from stockade.kernel.load import mounted_bpffs
from stockade.service.control import ask, running
from stockade.service.listening import answers
from stockade.service.settings import Settings

SETTINGS = Settings()
POLICY = whole(http("curl", ECHO), allow=["sh", "sleep"])
LIVES = ["sh", "-c", "while :; do sleep 1; done"]
NOBODY = 65534
READS = "+dac_read_search"  # the interpreter may lie where root alone may read; to connect to a socket is to write


def said(*words: str, groups: Sequence[int] | None = None) -> subprocess.CompletedProcess[str]:
    """By root; with groups by a user who is in these."""
    become: list[str] = []
    if groups is not None:
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--inh-caps={READS}", f"--ambient-caps={READS}"]
        become += [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    return subprocess.run([*become, str(STOCKADE), *words], cwd="/", capture_output=True, text=True, timeout=60, check=False)


def of(name: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What was said of one sandbox, whichever command said it."""
    told = json.loads(done.stdout)
    rows = told["sandboxes"] if isinstance(told, dict) else told
    (found,) = [each for each in rows if name in (each.get("sandbox"), each.get("name"))]
    assert isinstance(found, dict)
    return found


def drifts(name: str) -> list[str]:
    done = said("fleet", "diff", "local", "-o", "json")
    return [
        each["text"] for each in json.loads(done.stdout) if each["sandbox"] == name and each["kind"] == "problem" and done.returncode == 1
    ]


def test_one_whose_agent_was_killed_is_a_problem(machine: Machine) -> None:
    """It lives, and reaches nothing: that no agent answers is not that nothing runs."""
    name = f"status-{os.getpid()}"
    with machine.start(LIVES, policy=POLICY, options=["--name", name]) as box:
        wait_for(lambda: name in running(SETTINGS.control), "the sandbox", 60, box)
        assert said("status", name).returncode == 0
        os.kill(ask(SETTINGS.control, name, "status")["pid"], signal.SIGKILL)
        try:
            box.process.wait(30)
            words = f"held, without an agent: stockade adopt {name}"
            for done in (said("status", "-o", "json"), said("status", name, "-o", "json")):
                assert (done.returncode, of(name, done)["problems"]) == (1, [words]), done
            text = said("status")
            assert text.returncode == 1 and f"  ! {words}" in text.stdout.splitlines(), text
            assert of(name, said("fleet", "node"))["problems"] == [words]
            assert drifts(name) == [words]
        finally:
            ended = said("sandbox", "kill", name)
    assert ended.returncode == 0, ended
    gone = said("status", name)
    assert (gone.returncode, f"no sandbox called {name} is running [no_sandbox]" in gone.stderr) == (2, True), gone


def test_a_container_whose_agent_was_killed_is_one_too(
    machine: Machine, network: Place, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    if missing := containers.lacking("runc"):
        pytest.skip(missing)
    work = containers.work_directory(place, inside)
    directory = containers.bundle(work / "bundle", container_root, network, work)
    with containers.runc(directory, work) as container:
        container.do("run /usr/bin/true")
        with attached(machine, machine.room(), POLICY, "--container", container.id) as first:
            assert said("status", container.id).returncode == 0
            first.process.kill()
            first.process.wait()
        done = said("status", "-o", "json")
        (words,) = of(container.id, done)["problems"]
        assert done.returncode == 1 and words.startswith("held, without an agent: stockade attach --cgroup /"), done
        assert drifts(container.id) == [words]
        with attached(machine, machine.room(), POLICY, "--container", container.id):
            assert said("status", container.id).returncode == 0


@pytest.fixture
def group() -> Iterator[int]:
    try:
        grp.getgrnam(GROUP)
        made = False
    except KeyError:
        subprocess.run(["groupadd", "--system", GROUP], check=True)
        made = True
    yield grp.getgrnam(GROUP).gr_gid
    if made:
        subprocess.run(["groupdel", GROUP], check=True)


@pytest.fixture
def daemon(machine: Machine, group: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    mounted_bpffs(SETTINGS.run / "bpf")  # in this mount namespace, or the pins go with the daemon's own
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(machine.wrap([STOCKADE, "daemon"]), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(SETTINGS.daemon) and said("status").returncode in (0, 1), "the daemon", 60)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


def test_the_group_may_look_and_a_dead_daemon_is_no_quiet_machine(machine: Machine, daemon: subprocess.Popen[bytes], group: int) -> None:
    name, mine = f"status-hosted-{os.getpid()}", f"status-own-{os.getpid()}"
    room = machine.room()
    (room / "policy.yaml").write_text(POLICY)
    line = [STOCKADE, "run", "--policy", room / "policy.yaml", "--name", name, "--", *LIVES]
    hosted = subprocess.Popen(list(map(str, line)), cwd=room / "work", stdin=subprocess.DEVNULL)
    with machine.start(LIVES, policy=POLICY, options=["--name", mine, "--embedded"]) as own:
        try:
            _look(hosted, own, name, mine, daemon, group)
        finally:
            for each in (name, mine):
                said("sandbox", "kill", each)
            hosted.wait(60)


def _look(hosted: subprocess.Popen[bytes], own: Running, name: str, mine: str, daemon: subprocess.Popen[bytes], group: int) -> None:
    wait_for(lambda: {name, mine} <= set(running(SETTINGS.control)), "both sandboxes", 60, own)
    # 1) a member is told what root is told, also of what the daemon does not serve
    for each in (name, mine):
        for words in (("status", each, "-o", "json"), ("fleet", "node")):
            done = said(*words, groups=[group])
            assert done.returncode == 0, done
            assert (of(each, done)["policy"], of(each, done)["problems"]) == ("test", []), done
    node = json.loads(said("fleet", "node", groups=[group]).stdout)
    assert (node["daemon_version"], node["daemon_pid"], node["version"]) == (__version__, daemon.pid, __version__)
    # 2) nobody else is, and a member may do nothing but look
    for groups in ([], [group + 1]):
        done = said("status", groups=groups)
        assert (done.returncode, f"root and the group {GROUP} may look [not_root]" in done.stderr) == (2, True), done
    assert said("sandbox", "kill", name, groups=[group]).returncode == 2 and hosted.poll() is None
    # 3) without its daemon it is held, and that is said
    daemon.kill()
    daemon.wait()
    done = said("status", name, "-o", "json")
    words_of_it = "held, without an agent: start the daemon, which takes over all that it finds"
    assert (done.returncode, of(name, done)["problems"]) == (1, [words_of_it]), done
    assert drifts(name) == [words_of_it]
    assert json.loads(said("fleet", "node").stdout)["daemon_pid"] == 0
    done = said("status", groups=[group])
    assert done.returncode == 2 and "there is no daemon to ask [not_root]" in done.stderr, done
