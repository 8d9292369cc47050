"""A daemon governs containers that it did not start: each held to its own policy, whoever asked, and whatever becomes of the daemon."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from framework import containers
from framework.attaching import CURL, TRIES, Several
from framework.containers import Container, Place
from framework.daemon import SETTINGS, Daemon, asked, is_nobodys
from framework.internet import ECHO, H1, OTHER
from framework.machine import STOCKADE, Machine, Record, select, wait_for, worker_of
from framework.policy import http, whole
from stockade.attach import berth
from stockade.sandbox.cgroup import Cgroup, mounted
from stockade.service.control import running

if missing := containers.lacking("runc"):
    pytest.skip(missing, allow_module_level=True)

TRUSTING = "/usr/bin/curl -sS -o /dev/null -w %{http_code}"


def policy(*hosts: str, more: tuple[str, ...] = ()) -> str:
    return whole(http(["curl", "python3"], *hosts, methods=["GET"], paths=["/open/**"]), allow=["python3", "curl", "sh", *more])


class Client:
    """`stockade attach`, when it has said that it governs: asks the daemon, and stays."""

    def __init__(self, room: Path, text: str, *options: str | Path) -> None:
        self.policy = room / "policy.yaml"
        self.policy.write_text(text)
        self._said, self._errors = room / "said", room / "errors"
        with self._said.open("wb") as said, self._errors.open("wb") as errors:
            line = [STOCKADE, "attach", *options, "--policy", self.policy]
            self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=said, stderr=errors)
        wait_for(lambda: ": governed," in self.said or self.process.poll() is not None, "attach", 60)
        assert ": governed," in self.said, self.errors

    @property
    def said(self) -> str:
        return self._said.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def end(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def up(place: Path, root: Path, inside: Mapping[str, str], hooks: Path | None = None) -> Iterator[tuple[Container, Place]]:
    """A container in a place of its own. hooks: the directory of policies of which its hook takes `held`."""
    with Place() as network:
        work = containers.work_directory(place, inside)
        words = [str(STOCKADE), "oci-hook", "--policies", str(hooks)]
        asks = {"createRuntime": [{"path": str(STOCKADE), "args": words}]} if hooks is not None else None
        directory = containers.bundle(
            work / "bundle", root, network, work, capabilities=["CAP_NET_RAW"], annotations={"stockade.policy": "held"}, hooks=asks
        )
        with containers.runc(directory, work) as container:
            yield container, network


def of(daemon: Daemon, name: str) -> list[Record]:
    return [record for record in daemon.records() if record["sandbox"]["name"] == name]


def refused(daemon: Daemon, name: str) -> list[Record]:
    return select(of(daemon, name), action="exec", decision="deny")


def says(daemon: Daemon, words: str, times: int = 1) -> bool:
    return daemon.said.count(words) >= times


def let_go(name: str) -> None:
    done = subprocess.run([STOCKADE, "attach", "--let-go", name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done


def status() -> str:
    return subprocess.run([STOCKADE, "status"], capture_output=True, text=True, timeout=60).stdout


def out(container: Container, network: Place) -> list[str]:
    """What gets out, by every way that there is."""
    before = len(network.heard)
    found = [container.do(f"tcp {network.host} {network.tcp}"), container.do(f"udp {network.host} {network.udp}")]
    container.do("packet eth0")
    with contextlib.suppress(AssertionError):
        wait_for(lambda: len(network.heard) - before >= 3, "what gets out", timeout=0.5)
    return [*(each for each in found if each == "outside"), *network.heard[before:]]


def left(daemon: Daemon) -> dict[str, int]:
    """How much there is of what attachments are made of."""
    return {
        "pins": len(list((SETTINGS.run / "bpf").glob("attached-*"))),
        "files": len(list((SETTINGS.run / "attached").glob("*"))),
        "slots": sum(is_nobodys(path) for path in (SETTINGS.run / "slots").iterdir()),
        "descriptors": len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())),
        "of the worker": len(list(Path(f"/proc/{worker_of(daemon.pid)}/fd").iterdir())),
        "sandboxes": len(daemon.node()["sandboxes"]),
    }


def test_two_containers_are_each_held_to_their_own_policy_by_one_daemon(
    serving: Daemon, machine: Machine, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    """And go on where the other is let go of. One worker carries both; every verb finds them as it finds a sandbox."""
    with up(place, container_root, inside) as (first, here), up(place, container_root, inside) as (second, there):
        for each in (first, second):
            each.do("run /usr/bin/true")
        before = left(serving)
        assert sorted(out(first, here)) == ["frame", "outside", "tcp", "udp"]
        clients = {
            container: Client(machine.room(), policy(host), "--container", container.id)
            for container, host in ((first, ECHO), (second, H1))
        }
        for container, may, may_not in ((first, ECHO, H1), (second, H1, ECHO)):
            assert container.do(f"run {CURL} https://{may}/open/a") == "0 200"
            assert container.do(f"run {CURL} https://{may}/shut") == "0 403"
            assert container.do(f"run {CURL} https://{may_not}/open/a").startswith("6 ")
            assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed"))
            wait_for(functools.partial(refused, serving, container.id), "the last refusal")
            found = of(serving, container.id)
            (allowed,) = select(found, action="http", decision="allow")
            assert (allowed["destination"]["host"], allowed["binary"]["path"]) == (may, "/usr/bin/curl")
            assert {record["destination"]["host"] for record in select(found, action="dns", decision="deny")} == {may_not}
            assert {record["sandbox"]["labels"]["container"] for record in found} == {container.id}
            assert {record["sandbox"]["labels"]["image"] for record in found} == {containers.IMAGE}
        assert (out(first, here), out(second, there)) == ([], [])
        for client in clients.values():
            children = Path(f"/proc/{client.process.pid}/task/{client.process.pid}/children").read_text()
            assert children == "", "whoever asked has no worker of its own"
        assert {first.id, second.id} <= {each["sandbox"] for each in serving.node()["sandboxes"]}
        listed = subprocess.run([STOCKADE, "sandbox", "ls", "-o", "json"], capture_output=True, text=True, check=True).stdout
        assert {serving.pid} == {each["agent"] for each in json.loads(listed) if each["name"] in (first.id, second.id)}
        clients[first].policy.write_text(policy(OTHER))
        subprocess.run([STOCKADE, "reload", "--sandbox", first.id], check=True, capture_output=True, timeout=60)
        assert first.do(f"run {CURL} https://{OTHER}/open/a") == "0 200"
        assert first.do(f"run {CURL} https://{ECHO}/open/a").startswith("6 ")
        before_that = len(select(of(serving, second.id), reason="reloaded"))
        clients[second].process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(select(of(serving, second.id), reason="reloaded")) > before_that, "the reload")
        let_go(first.id)
        assert clients[first].end() == 0
        assert sorted(out(first, here)) == ["frame", "outside", "tcp", "udp"]
        assert out(second, there) == []
        assert second.do(f"run {CURL} https://{H1}/open/a") == "0 200"
        (stopped,) = select(of(serving, first.id), reason="stopped")
        assert stopped["detail"]["why"] == "it was let go of, and is not governed any more"
        assert clients[second].end(signal.SIGINT) == 0
        assert sorted(out(second, there)) == ["frame", "outside", "tcp", "udp"]
        wait_for(lambda: left(serving) == before, f"nothing but {before}, and it is {left(serving)}")


def test_a_container_that_ends_leaves_nothing(
    serving: Daemon, machine: Machine, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    """One that was attached to, and one of the hook, which is held from its first instruction and trusts what it is shown."""
    policies = machine.room() / "policies"
    policies.mkdir()
    (policies / "held.yaml").write_text(policy(ECHO))
    before = left(serving)
    with up(place, container_root, inside, policies) as (hooked, network), up(place, container_root, inside) as (attached, _):
        client = Client(machine.room(), policy(H1), "--container", attached.id)
        assert hooked.do(f"run {TRUSTING} https://{ECHO}/open/a") == "0 200"
        assert hooked.do(f"run {TRUSTING} https://{ECHO}/shut") == "0 403"
        assert hooked.do(f"run {TRUSTING} https://{H1}/open/a").startswith("6 ")
        assert out(hooked, network) == []
        found = of(serving, hooked.id)
        (started,) = select(found, reason="started")
        assert started["detail"]["trust_store"] == containers.BUNDLE
        first = next(record for record in found if record["action"] == "exec")
        assert (first["binary"]["path"], first["decision"], first["pid"]) == ("/usr/bin/python3", "allow", hooked.pid)
        assert not (SETTINGS.log / f"{hooked.id}.log").exists(), "there is no agent of its own"
        attached.begin("exit 7")
        assert client.end() in (0, 7)  # a kernel before 6.15 does not say how it ended
        hooked.end()
        wait_for(lambda: left(serving) == before, f"nothing but {before}, and it is {left(serving)}")
        for name in (hooked.id, attached.id):
            assert select(of(serving, name), reason="stopped") and name not in running(SETTINGS.control)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "replaced"])
def test_the_next_daemon_takes_over_what_it_finds(
    serving: Daemon, machine: Machine, place: Path, container_root: Path, inside: dict[str, str], end: signal.Signals
) -> None:
    policies = machine.room() / "policies"
    policies.mkdir()
    (policies / "held.yaml").write_text(policy(ECHO))
    with up(place, container_root, inside, policies) as (hooked, here), up(place, container_root, inside) as (attached, there):
        client = Client(machine.room(), policy(H1), "--container", attached.id, "--name", f"box-{attached.id}")
        names = {hooked: hooked.id, attached: f"box-{attached.id}"}
        assert hooked.do(f"run {TRUSTING} https://{ECHO}/open/a") == "0 200"
        assert attached.do(f"run {CURL} https://{H1}/open/a") == "0 200"
        serving.end(end)
        assert client.end() == 70
        assert f"{names[attached]} stays" in client.errors and "the next" in client.errors
        for container, network, host in ((hooked, here, ECHO), (attached, there, H1)):
            assert out(container, network) == [], "nothing gets out while there is no daemon"
            assert container.do(f"run {CURL} https://{host}/open/a").startswith(("6 ", "7 "))
            assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed")), "what may not run does not"
        assert status().count("held, without an agent: start the daemon") >= 2
        serving.start()
        for name in names.values():
            wait_for(functools.partial(says, serving, f"took over {name}\n"), f"the next daemon, of {name}", 60)
        assert hooked.do(f"run {TRUSTING} https://{ECHO}/open/a") == "0 200", "it trusts what it was given at its start"
        assert hooked.do(f"run {TRUSTING} https://{H1}/open/a").startswith("6 ")
        assert attached.do(f"run {CURL} https://{H1}/open/a") == "0 200"
        assert attached.do(f"run {CURL} https://{ECHO}/open/a").startswith("6 ")
        for container, network in ((hooked, here), (attached, there)):
            assert out(container, network) == []
            found = of(serving, names[container])
            assert [each["reason"] for each in select(found, action="lifecycle") if each["reason"] != "worker_lost"] == ["started"] * 2
            assert {record["sandbox"]["labels"]["image"] for record in found} == {containers.IMAGE}
            pins = berth.left_on(SETTINGS.run / "bpf", cgroup_of(container).id)
            assert len(pins) == 1 and f"-{serving.pid}-" in pins[0].name, "the old programs are taken off"
        let_go(names[attached])
        assert sorted(out(attached, there)) == ["frame", "outside", "tcp", "udp"]
        let_go(names[hooked])
        assert sorted(out(hooked, here)) == ["frame", "outside", "tcp", "udp"]


def cgroup_of(container: Container) -> Cgroup:
    lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    return Cgroup(mounted() / next(line[4:] for line in lines if line.startswith("0::")))


def test_a_client_that_is_killed_lets_go_of_nothing(
    serving: Daemon, machine: Machine, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    with up(place, container_root, inside) as (container, network):
        client = Client(machine.room(), policy(ECHO), "--container", container.id)
        client.end(signal.SIGKILL)
        assert out(container, network) == []
        assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
        line = [str(each) for each in (STOCKADE, "attach", "--container", container.id, "--policy", client.policy)]
        again = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert (again.returncode, "governed already [attached]" in again.stderr) == (2, True), again
        let_go(container.id)
        assert sorted(out(container, network)) == ["frame", "outside", "tcp", "udp"]


def test_what_cannot_be_taken_over_stays_held_and_is_attached_to_again(
    serving: Daemon, machine: Machine, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    policies = machine.room() / "policies"
    policies.mkdir()
    (policies / "held.yaml").write_text(policy(ECHO))
    with up(place, container_root, inside, policies) as (container, network):
        assert container.do(f"run {TRUSTING} https://{ECHO}/open/a") == "0 200"
        serving.end(signal.SIGKILL)
        (policies / "held.yaml").write_text("version: 1\nnonsense: true\n")
        serving.start()
        wait_for(lambda: f"{container.id} was not taken over, and stays held" in serving.said, "what it says of it", 60)
        assert out(container, network) == []
        assert container.do(f"run {CURL} https://{ECHO}/open/a").startswith(("6 ", "7 "))
        assert "held, without an agent: the daemon takes it over, or its log says why not: stockade attach --cgroup" in status()
        again = Client(machine.room(), policy(H1), "--container", container.id)
        assert container.do(f"run {TRUSTING} https://{H1}/open/a") == "0 200", "it trusts what it was given at its start"
        assert [each["detail"]["trust_store"] for each in select(of(serving, container.id), reason="started")] == [containers.BUNDLE] * 2
        assert len(berth.left_on(SETTINGS.run / "bpf", cgroup_of(container).id)) == 1
        assert again.end(signal.SIGTERM) == 0
        assert sorted(out(container, network)) == ["frame", "outside", "tcp", "udp"]


def test_nothing_gets_out_while_daemons_follow_one_another_on_the_hosts_network(
    serving: Daemon, machine: Machine, network: Place, place: Path, inside: dict[str, str]
) -> None:
    """No device is closed there, so the programs alone hold it: the next daemon's are there before the last one's are taken away."""
    host = Path("/proc/self/ns/net")
    with Several(place, inside, host, host) as several:
        trying, other = several.containers
        (trying.work / "tries.py").write_text(TRIES)
        line = f"run /usr/bin/python3 {trying.work}/tries.py {network.host} {network.tcp} {network.udp} {trying.work}"
        client = Client(machine.room(), policy(ECHO), "--cgroup", str(several.cgroup))
        number = trying.begin(line)
        wait_for((trying.work / "begun").exists, "the first attempts")
        took_over = f"took over {several.cgroup.name}\n"
        for end in (signal.SIGKILL, signal.SIGTERM):
            serving.end(end)
            serving.start()
            serving.end(end)  # while it takes over, or before, or after
            known = serving.said.count(took_over)
            serving.start()
            wait_for(functools.partial(says, serving, took_over, known + 1), "the next daemon", 60)
        (trying.work / "stop").touch()
        wait_for((trying.work / f"done-{number}").exists, "how often it tried")
        status, *tried = (trying.work / f"done-{number}").read_text().split()
        assert status == "0" and all(int(count) > 20 for count in tried), tried
        assert network.heard == []
        assert client.end() == 70
        assert other.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
        assert other.do(f"tcp {network.host} {network.tcp}").startswith("failed")
        let_go(several.cgroup.name)
        assert other.do(f"tcp {network.host} {network.tcp}") == "outside"


def test_one_that_loses_what_holds_it_is_killed_alone(
    serving: Daemon, machine: Machine, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    with up(place, container_root, inside) as (first, _), up(place, container_root, inside) as (second, network):
        clients = [Client(machine.room(), policy(ECHO), "--container", each.id) for each in (first, second)]
        (pins,) = berth.left_on(SETTINGS.run / "bpf", cgroup_of(first).id)
        next(pins.glob("link_*_connect4")).unlink()
        assert clients[0].end() == 2 and "was taken away" in clients[0].errors
        assert select(of(serving, first.id), reason="enforcement_lost")
        assert second.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
        assert out(second, network) == []
        assert clients[1].end(signal.SIGTERM) == 0


def test_two_in_one_network_namespace_are_told_apart(serving: Daemon, machine: Machine, place: Path, inside: dict[str, str]) -> None:
    """Their agents have addresses and programs beside each other, and one worker."""
    host = Path("/proc/self/ns/net")
    with Several(place, inside, host, name="first") as first, Several(place, inside, host, name="second") as second:
        clients = [Client(machine.room(), policy(may), "--cgroup", str(several.cgroup)) for several, may in ((first, ECHO), (second, H1))]
        for several, may, may_not in ((first, ECHO, H1), (second, H1, ECHO)):
            (process,) = several.containers
            assert process.do(f"run {CURL} https://{may}/open/a") == "0 200"
            assert process.do(f"run {CURL} https://{may_not}/open/a").startswith("6 ")
            found = of(serving, several.cgroup.name)
            assert {record["destination"]["host"] for record in select(found, action="http", decision="allow")} == {may}
            assert {record["sandbox"]["labels"]["cgroup"] for record in found} == {f"/{several.cgroup.name}"}
        assert [client.end(signal.SIGINT) for client in clients] == [0, 0]


def test_what_cannot_be_recorded_does_not_let_go_of_it(
    serving: Daemon, machine: Machine, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    """No room for the last record of one: it stays held, and the daemon and its own sandboxes go on."""
    room = machine.room()
    full = room / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", full], check=True)
    (room / "settings.yaml").write_text(f"audit: {{directory: {full}}}\n")
    serving.end(signal.SIGTERM)
    with up(place, container_root, inside) as (container, network):
        try:
            serving.start(None, "--settings", room / "settings.yaml")
            client = Client(machine.room(), policy(ECHO), "--container", container.id)
            assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
            with contextlib.suppress(OSError), (full / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            for _ in range(30):  # what is left of the last page
                container.do(f"tcp {network.host} {network.tcp}")
            assert client.end(signal.SIGINT) == 70
            assert f"what holds {container.id} stays" in client.errors
            assert out(container, network) == []
            assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed"))
            assert serving.node()["pid"] == serving.pid
            (full / "filler").unlink()
            again = Client(machine.room(), policy(ECHO), "--container", container.id)  # by the daemon that kept it
            assert len(berth.left_on(SETTINGS.run / "bpf", cgroup_of(container).id)) == 1
            assert out(container, network) == []
            serving.end(signal.SIGTERM)
            assert again.end() == 70
        finally:
            if serving.process is not None and serving.process.poll() is None:
                serving.end(signal.SIGKILL)
            subprocess.run(["umount", "-l", full], check=True)
            serving.start()
        wait_for(functools.partial(says, serving, f"took over {container.id}\n"), "the next daemon", 60)
        assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
        let_go(container.id)
        assert sorted(out(container, network)) == ["frame", "outside", "tcp", "udp"]


def test_one_that_cannot_be_governed_is_as_it_was(
    serving: Daemon, machine: Machine, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    """A policy that does not load, one that the container could write, as the daemon sees it, and a name that another has. A hook then
    lets nothing start."""
    before = left(serving)
    with up(place, container_root, inside) as (container, network):
        bad, own = machine.room() / "policy.yaml", container.work / "policy.yaml"
        bad.write_text("version: 1\nnonsense: true\n")
        own.write_text(policy(ECHO))
        for file, why in ((bad, "policy.yaml:2:1"), (own, "as /work/policy.yaml [writable_source]")):
            line = [str(each) for each in (STOCKADE, "attach", "--container", container.id, "--policy", file)]
            done = subprocess.run(line, capture_output=True, text=True, timeout=60)
            assert (done.returncode, why in done.stderr) == (2, True), done
        with up(place, container_root, inside) as (other, _):
            client = Client(machine.room(), policy(ECHO), "--container", other.id)
            line = [*line[:4], "--policy", str(client.policy), "--name", other.id]
            done = subprocess.run(line, capture_output=True, text=True, timeout=60)
            assert (done.returncode, "is running [name_taken]" in done.stderr) == (2, True), done
            assert other.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
            assert client.end(signal.SIGQUIT) == 0
        assert sorted(out(container, network)) == ["frame", "outside", "tcp", "udp"]
    policies = machine.room() / "policies"
    policies.mkdir()
    (policies / "held.yaml").write_text("version: 1\nnonsense: true\n")
    with pytest.raises(AssertionError, match=r"held\.yaml:2:1"), up(place, container_root, inside, policies):
        pass
    wait_for(lambda: left(serving) == before, f"nothing but {before}, and it is {left(serving)}")


def test_what_is_no_request_is_refused(serving: Daemon, machine: Machine) -> None:
    requests: tuple[dict[str, Any], ...] = ({}, {"order": 3}, {"order": {}, "target": None})
    for arguments in requests:
        assert asked({"v": 1, "verb": "attach", "arguments": arguments})["error"]["code"] == "bad_request"
    line = [str(each) for each in (STOCKADE, "attach", "--pid", serving.pid, "--policy", machine.room() / "none.yaml")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "bad_target" in done.stderr, done
    assert serving.node()["pid"] == serving.pid
