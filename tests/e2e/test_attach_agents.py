"""The agent of what was attached to comes and goes: what holds when it has died, and what is left when it, or what it holds, has ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from framework import containers
from framework.attaching import CURL, POLICY, TRIES, Several
from framework.containers import Container, Place, attached
from framework.internet import ECHO
from framework.machine import Machine, Running, select, wait_for
from stockade.attach import target
from stockade.kernel.load import mounted_bpffs
from stockade.service.settings import Settings

if missing := containers.lacking("runc"):
    pytest.skip(missing, allow_module_level=True)

KERNEL = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])


def test_detaching_leaves_nothing(container: Container, machine: Machine, network: Place) -> None:
    def state() -> dict[str, object]:
        inside = ["nsenter", f"--net={network.path}"]
        cgroup = target.of_container(container.id).cgroup.path
        pinned = mounted_bpffs(Settings().run / "bpf").glob("attached-*")
        return {
            "rules": subprocess.run([*inside, "nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout,
            "addresses": subprocess.run([*inside, "ip", "-br", "address"], capture_output=True, text=True, check=True).stdout,
            "listeners": subprocess.run([*inside, "ss", "-Hltun"], capture_output=True, text=True, check=True).stdout,
            "programs": _attached_programs(cgroup),
            "pins": sorted(map(str, pinned)),
            "files": sorted(map(str, (Settings().run / "attached").glob("*"))),
        }

    container.do("run /usr/bin/true")
    before = state()
    with attached(machine, machine.room(), POLICY, "--container", container.id) as running:
        assert state() != before
        running.process.send_signal(signal.SIGINT)
        assert running.finish().status == 0
    assert state() == before
    assert container.do("run /usr/bin/sleep 0") == "0 "


def _attached_programs(cgroup: Path) -> int:
    done = subprocess.run(["bpftool", "cgroup", "show", cgroup], capture_output=True, text=True, check=False)
    return len(done.stdout.splitlines())


def test_without_its_agent_it_reaches_nothing_and_another_agent_takes_over(container: Container, machine: Machine, network: Place) -> None:
    """kill -9: programs, pins and filter stay, nobody answers; attaching again sweeps what was left."""
    url = f"run {CURL} https://{ECHO}/open/a"
    with attached(machine, machine.room(), POLICY, "--container", container.id) as first:
        assert container.do(url) == "0 200"
        first.process.kill()
        first.process.wait()
        assert container.do(url).startswith(("6 ", "7 "))
        assert container.do(f"tcp {network.host} {network.tcp}").startswith("failed")
        assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed"))
        heard = len(network.heard)
        container.do("packet eth0")
        assert network.heard[heard:] == []
    with attached(machine, machine.room(), POLICY, "--container", container.id):
        assert container.do(url) == "0 200"
    assert container.do(f"tcp {network.host} {network.tcp}") == "outside"


def test_nothing_gets_out_while_another_agent_takes_over_on_the_hosts_network(
    machine: Machine, network: Place, place: Path, inside: dict[str, str]
) -> None:
    """No device is closed there, so the programs alone hold it: the new ones are there before the dead agent's are taken away."""
    host = Path("/proc/self/ns/net")
    with Several(place, inside, host, host) as several:
        trying, other = several.containers
        (trying.work / "tries.py").write_text(TRIES)
        line = f"run /usr/bin/python3 {trying.work}/tries.py {network.host} {network.tcp} {network.udp} {trying.work}"
        with attached(machine, machine.room(), POLICY, "--cgroup", str(several.cgroup)) as first:
            first.process.kill()
            first.process.wait()
        number = trying.begin(line)
        wait_for((trying.work / "begun").exists, "the first attempts")
        for _ in range(3):
            with attached(machine, machine.room(), POLICY, "--cgroup", str(several.cgroup)) as next_:
                next_.process.kill()
                next_.process.wait()
        (trying.work / "stop").touch()
        wait_for((trying.work / f"done-{number}").exists, "how often it tried")
        status, *tried = (trying.work / f"done-{number}").read_text().split()
        assert status == "0" and all(int(count) > 20 for count in tried), tried
        assert network.heard == []
        with attached(machine, machine.room(), POLICY, "--cgroup", str(several.cgroup)):
            assert other.do(f"tcp {network.host} {network.tcp}").startswith("failed")
        assert other.do(f"tcp {network.host} {network.tcp}") == "outside"  # whoever is let go of is heard
        assert other.do(f"udp {network.host} {network.udp}") == "sent"
        wait_for(lambda: set(network.heard) == {"tcp", "udp"}, "both")


def test_what_cannot_be_recorded_does_not_let_go_of_it(container: Container, machine: Machine, network: Place) -> None:
    """No room for the last record: the agent ends, and what holds the container does not."""
    room = machine.room()
    full = room / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", full], check=True)
    try:
        audit = full / "audit.jsonl"
        with attached(machine, room, POLICY, "--container", container.id, audit=audit) as running:
            with contextlib.suppress(OSError), (full / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            for _ in range(30):  # what is left of the last page
                container.do(f"tcp {network.host} {network.tcp}")
            running.process.terminate()
            assert running.finish().status == 70
        assert container.do(f"tcp {network.host} {network.tcp}").startswith("failed")
        assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed"))
    finally:
        subprocess.run(["umount", "-l", full], check=True)
    with attached(machine, machine.room(), POLICY, "--container", container.id):  # takes over, and lets go
        pass
    assert container.do(f"tcp {network.host} {network.tcp}") == "outside"


def test_a_container_that_ends_ends_its_agent(container: Container, held: Running) -> None:
    container.do("run /usr/bin/true")
    container.begin("exit 7")
    result = held.finish()
    assert result.status == (7 if KERNEL >= (6, 15) else 0), result  # which tells of a process that is reaped
    assert result.select(reason="stopped")


LATER = """
import os, pathlib, socket, time
if os.fork():
    os._exit(0)
os.setsid()
for number in range(3):
    os.close(number)
while not pathlib.Path("/work/go").exists():
    time.sleep(0.02)
try:
    socket.create_connection(({host!r}, {port}), timeout=5)
    said = "outside"
except OSError as error:
    said = f"failed {{error!r}}"
pathlib.Path("/work/went.part").write_text(said)
pathlib.Path("/work/went.part").rename("/work/went")
"""


def test_who_outlives_the_first_process_of_a_container_is_held(
    place: Path, container_root: Path, network: Place, inside: dict[str, str], machine: Machine
) -> None:
    """With the machine's PID namespace nobody dies with it; with CAP_SYS_PTRACE too it could act through somebody else."""
    work = containers.work_directory(place, inside)
    (work / "later.py").write_text(LATER.format(host=network.host, port=network.tcp))
    directory = containers.bundle(work / "bundle", container_root, network, work, capabilities=["CAP_SYS_PTRACE"])
    spec = json.loads((directory / "config.json").read_text())
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "pid"]
    (directory / "config.json").write_text(json.dumps(spec))
    with (
        containers.runc(directory, work) as container,
        attached(machine, machine.room(), POLICY, "--container", container.id) as running,
    ):
        assert container.do("run /usr/bin/python3 /work/later.py") == "0 "
        container.begin("exit 7")
        wait_for(lambda: not Path(f"/proc/{container.pid}").exists(), "the end of the first process")
        (work / "go").touch()
        wait_for((work / "went").exists, "what came of it")
        assert (work / "went").read_text().startswith("failed")
        result = running.finish()
    assert result.status == (7 if KERNEL >= (6, 15) else 0), result
    assert "NOT HELD: it keeps CAP_SYS_PTRACE in the machine's PID namespace" in result.stderr
    last = [(record["action"], record["reason"]) for record in result.records if record["action"] in ("connect", "lifecycle")]
    assert last[-2:] == [("connect", "no_rule"), ("lifecycle", "stopped")]


def test_a_cgroup_is_held_when_the_first_of_its_processes_has_ended(
    machine: Machine, network: Place, place: Path, inside: dict[str, str]
) -> None:
    """In a network namespace of its own: its devices are looked after, and its policy is read, as before."""
    with Several(place, inside, network.path, network.path) as several:
        ends, stays = several.containers
        with attached(machine, machine.room(), POLICY, "--cgroup", str(several.cgroup)) as running:
            ends.begin("exit 0")
            several.processes[0].wait()
            running.reload()
            wait_for(lambda: select(running.records(), reason="reloaded"), "the reload")
            subprocess.run(["ip", "-n", network.name, "link", "add", "late", "type", "veth", "peer", "late-peer"], check=True)
            subprocess.run(["ip", "-n", network.name, "link", "set", "late", "up"], check=True)
            listed = ["nsenter", f"--net={network.path}", "nft", "list", "table", "netdev", "stockade"]
            wait_for(lambda: 'device "late"' in subprocess.run(listed, capture_output=True, text=True).stdout, "the late device, closed")
            assert stays.do(f"tcp {network.host} {network.tcp}").startswith("failed")
            stays.begin("exit 0")
            several.processes[1].wait()
            result = running.finish()
        assert result.status == 0, result
        assert result.select(reason="stopped")
        (started,) = result.select(reason="started")
        assert not [words for words in started["detail"]["not_held"] if "namespace, whose" in words]
