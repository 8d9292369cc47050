"""A container that runs already is attached to: what its processes may and may not reach afterwards, and what is written down of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import containers
from framework.attaching import CURL, POLICY, Several
from framework.containers import Container, Place, attached
from framework.internet import ECHO, OTHER
from framework.machine import STOCKADE, Machine, Running, select, wait_for
from framework.policy import http, whole
from stockade.attach.device import EGRESS, HOST_END, Closed
from stockade.sandbox.cgroup import mounted
from stockade.sandbox.joined import Joined

if missing := containers.lacking("runc"):
    pytest.skip(missing, allow_module_level=True)


@pytest.fixture(scope="module")
def shared(machine: Machine, place: Path, container_root: Path, inside: dict[str, str]) -> Iterator[tuple[Container, Running]]:
    """One that several tests speak to."""
    with Place() as network:
        work = containers.work_directory(place, inside)
        directory = containers.bundle(work / "bundle", container_root, network, work)
        with (
            containers.runc(directory, work) as container,
            attached(machine, machine.room(), POLICY, "--container", container.id) as running,
        ):
            yield container, running


def test_a_container_that_runs_is_held_to_its_policy(shared: tuple[Container, Running]) -> None:
    """Allowed by binary, host, method and path; refused where one of them is another."""
    container, held = shared
    before = len(held.records())
    assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
    assert container.do(f"run {CURL} -X DELETE https://{ECHO}/open/a") == "0 403"
    assert container.do(f"run {CURL} https://{ECHO}/shut") == "0 403"
    assert container.do(f"run {CURL} https://{OTHER}/").startswith("6 ")
    assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed"))  # in no list
    assert container.do(f"ask GET http://{OTHER}/").startswith("failed")
    wait_for(lambda: len(select(held.records()[before:], action="dns", decision="deny", host=OTHER)) >= 2, "the last refusal")
    records = held.records()[before:]
    (allowed,) = select(records, action="http", decision="allow", host=ECHO)
    assert (allowed["http"]["method"], allowed["http"]["path"]) == ("GET", "/open/a")
    assert allowed["binary"]["path"] == "/usr/bin/curl"
    assert {record["reason"] for record in select(records, action="http", decision="deny")} == {"no_rule"}
    assert select(records, action="exec", decision="deny", binary_path="/usr/bin/sleep")
    for record in held.records():
        assert record["sandbox"]["labels"]["container"] == container.id
        assert record["sandbox"]["labels"]["image"] == containers.IMAGE


def test_who_ran_before_is_known_by_what_it_executes(shared: tuple[Container, Running]) -> None:
    """The first process never executed anything under Stockade's eyes."""
    container, held = shared
    before = len(held.records())
    assert container.do(f"ask GET http://{ECHO}/open/early") == "200"
    assert container.do(f"ask GET http://{ECHO}/shut") == "403"
    assert "CERTIFICATE_VERIFY_FAILED" in container.do(f"ask GET https://{ECHO}/open/a")  # it was not given the sandbox's CA
    (started,) = [record for record in held.records() if record["reason"] == "started"]
    assert started["detail"]["processes"] == [f"{container.pid} /usr/bin/python3"]
    assert "trust store" in started["detail"]["not_given"]
    (allowed,) = select(held.records()[before:], action="http", decision="allow")
    assert (allowed["pid"], allowed["binary"]["identity"]) == (container.pid, "weak")


def test_nothing_leaves_by_the_device(container: Container, machine: Machine, network: Place) -> None:
    """Each of these gets out before, and none of them while it is held; afterwards they do again. What was open before is cut."""
    ways = (f"tcp {network.host} {network.tcp}", f"udp {network.host} {network.udp}", "packet eth0", "packet eth0 bypass")

    def tried() -> list[str]:
        before = len(network.heard)
        outcomes = [container.do(way) for way in ways]
        with contextlib.suppress(AssertionError):
            wait_for(lambda: len(network.heard) - before >= len(ways), "what gets out", timeout=1)
        return [*network.heard[before:], *(outcome for outcome in outcomes if outcome == "outside")]

    assert sorted(tried()) == ["frame", "frame", "outside", "tcp", "udp"]
    assert container.do(f"keep {network.host} {network.tcp}") == "outside"
    heard = len(network.heard)
    with attached(machine, machine.room(), POLICY, "--container", container.id) as running:
        assert container.do("say") != "outside"
        assert network.heard[heard:] == []
        assert tried() == []
        (started,) = [record for record in running.records() if record["reason"] == "started"]
        (connection,) = started["detail"]["connections"]
        assert f"-> {network.host}:{network.tcp}" in connection
        assert started["detail"]["existing"] == "cut"
        assert started["detail"]["device"] == EGRESS
        refused = wait_for(
            lambda: [r for r in running.records() if r["decision"] == "deny" and r["action"] in ("connect", "datagram")], "records"
        )
        assert {record["destination"]["host"] for record in refused} == {network.host}
    assert sorted(tried()) == ["frame", "frame", "outside", "tcp", "udp"]


def test_without_the_programs_the_device_holds_and_without_the_device_the_programs(
    container: Container, held: Running, network: Place
) -> None:
    """A frame passes every program, so the filter alone stops it; a datagram is stopped by either."""
    rules = ["nsenter", f"--net={network.path}", "nft", "delete", "table", "netdev", "stockade"]
    before = len(network.heard)
    container.do("packet eth0")
    assert network.heard[before:] == []
    subprocess.run(rules, check=True)
    container.do("packet eth0")
    wait_for(lambda: network.heard[before:] == ["frame"], "a frame without the filter")
    assert "sent" not in container.do(f"udp {network.host} {network.udp}")
    result = held.finish()  # the agent has noticed, and nothing of it lives on
    assert result.status == 2 and "was taken away" in result.stderr, result
    assert result.select(reason="enforcement_lost")
    assert not Path(f"/proc/{container.pid}").exists() or "zombie" in Path(f"/proc/{container.pid}/status").read_text()


def test_what_it_was_connected_to_before_may_be_kept(container: Container, machine: Machine, network: Place) -> None:
    """That connection, and no other to the same place."""
    assert container.do(f"keep {network.host} {network.tcp}") == "outside"
    with attached(machine, machine.room(), POLICY, "--container", container.id, "--existing", "keep") as running:
        assert container.do("say") == "outside"
        assert container.do(f"tcp {network.host} {network.tcp}").startswith("failed")
        heard = len(network.heard)
        container.do("packet eth0")
        assert network.heard[heard:] == []
        (started,) = [record for record in running.records() if record["reason"] == "started"]
        assert started["detail"]["existing"] == "keep"
        assert len(started["detail"]["connections"]) == 1


def test_whoever_comes_in_is_answered_and_nobody_else(container: Container, machine: Machine, network: Place) -> None:
    """By its own device, to the port and from the addresses that `inbound` says; a reload shuts it again."""
    assert container.do("listen 8080") == "listening"
    assert container.do("listen 9090") == "listening"
    rule = http("curl", ECHO)
    opened = whole(rule, allow=["python3", "curl"], inbound=[{"port": 8080, "protocol": "tcp", "from": [f"{network.host}/32"]}])
    with attached(machine, machine.room(), opened, "--container", container.id) as running:
        assert asked(network.own, 8080) == b"inside"
        assert asked(network.own, 8080) == b"inside"
        assert asked(network.own, 9090) == b""
        listed = subprocess.run(
            ["nsenter", f"--net={network.path}", "nft", "-j", "list", "set", "netdev", "stockade", "heard4"],
            capture_output=True,
            text=True,
            check=True,
        )
        (known,) = [entry["set"]["elem"] for entry in json.loads(listed.stdout)["nftables"] if "set" in entry]
        assert len(known) == 1  # however many connections one peer makes
        came, _ = wait_for(lambda: [r for r in [select(running.records(), action="inbound")] if len(r) == 2], "records of who came in")[0]
        assert (came["detail"]["source"], came["destination"]["port"], came["decision"]) == (network.host, 8080, "allow")
        assert container.do(f"tcp {network.host} {network.tcp}").startswith("failed")
        heard = len(network.heard)
        container.do("packet eth0")
        assert network.heard[heard:] == []
        (running.audit.parent / "policy.yaml").write_text(whole(rule, allow=["python3", "curl"]))
        running.reload()
        wait_for(lambda: select(running.records(), reason="reloaded"), "the reload")
        assert asked(network.own, 8080) == b""


def asked(address: str, port: int) -> bytes:
    """What somebody outside is answered by the container; nothing when nobody answers."""
    try:
        with socket.create_connection((address, port), timeout=3) as sock:
            return sock.recv(100)
    except OSError:
        return b""


@pytest.mark.parametrize("which", ["--policy", "--audit"])
def test_what_the_container_could_write_itself_is_refused(which: str, container: Container, machine: Machine) -> None:
    """Its policy, or its trail, in a directory that it has as a volume."""
    room = machine.room()
    chosen = {"--policy": room / "policy.yaml", "--audit": room / "audit.jsonl"}
    chosen[which] = container.work / chosen[which].name
    chosen["--policy"].write_text(POLICY)
    line: list[str | Path] = [STOCKADE, "attach", "--container", container.id, *(word for pair in chosen.items() for word in pair)]
    done = subprocess.run(machine.wrap(line), capture_output=True, text=True, check=False)
    assert (done.returncode, f"as /work/{chosen[which].name} [writable_source]" in done.stderr) == (2, True), done.stderr


def test_what_the_container_has_written_is_not_what_the_policy_names(container: Container, machine: Machine) -> None:
    """An overlay's upper layer is its own: neither a new file there nor one that was replaced is enrolled."""
    assert container.do("run /usr/bin/cp /usr/bin/true /usr/bin/curl") == "0 "
    assert container.do("run /usr/bin/curl") == "0 "
    with attached(machine, machine.room(), POLICY, "--container", container.id) as running:
        assert container.do("run /usr/bin/curl").startswith(("-9", "failed"))
        assert container.do(f"ask GET http://{ECHO}/open/a") == "200"  # the image's own
        (started,) = [record for record in running.records() if record["reason"] == "started"]
        assert started["detail"]["written_binaries"] == ["/usr/bin/curl"]
        assert "curl" in started["detail"]["missing_binaries"]
        assert select(running.records(), action="exec", reason="exec_unlisted")


def test_what_lies_where_the_container_writes_is_not_what_a_link_calls_it(container: Container, machine: Machine) -> None:
    """A link in the place of the image's file, to one on a volume: the upper layer has the link alone."""
    assert container.do("run /usr/bin/cp /usr/bin/true /work/evil") == "0 "
    link = "import os; os.unlink('/usr/bin/curl'); os.symlink('/work/evil', '/usr/bin/curl')"
    (container.work / "link.py").write_text(link)
    assert container.do("run /usr/bin/python3 /work/link.py") == "0 "
    assert container.do("run /usr/bin/curl") == "0 "
    with attached(machine, machine.room(), POLICY, "--container", container.id) as running:
        assert container.do("run /usr/bin/curl").startswith(("-9", "failed"))
        assert container.do(f"ask GET http://{ECHO}/open/a") == "200"  # and it goes on, after it stood still
        (started,) = [record for record in running.records() if record["reason"] == "started"]
        assert started["detail"]["written_binaries"] == ["/work/evil"]
        assert "curl" in started["detail"]["missing_binaries"]
        assert select(running.records(), action="exec", reason="exec_unlisted")


def test_where_there_is_no_egress_hook_the_host_closes_its_end(container: Container, network: Place) -> None:
    """Frames are seen by whoever listens on that device itself, and go no further."""
    joined = Joined(container.pid)
    closed = Closed(joined, 77)
    try:
        closed.close([HOST_END])
        assert closed.by == HOST_END
        before = len(network.heard)
        assert container.do(f"tcp {network.host} {network.tcp}").startswith("failed")
        container.do(f"udp {network.host} {network.udp}")
        assert network.heard[before:] == []
        assert closed.holds() is None
        closed.open()
        assert container.do(f"tcp {network.host} {network.tcp}") == "outside"
    finally:
        closed.open()
        joined.close()


def answer(listener: socket.socket) -> None:
    """Every word of one who stays."""
    with contextlib.suppress(OSError):
        while True:
            peer = listener.accept()[0]
            with peer:
                while peer.recv(100):
                    peer.sendall(b"outside")


def test_a_unit_on_the_hosts_network(machine: Machine, network: Place, place: Path, inside: dict[str, str]) -> None:
    """No device is closed there, and what listens on the host's loopback is not the unit's own."""
    work = containers.work_directory(place, inside)
    unit = mounted() / f"stockade-tests-{os.getpid()}.slice" / f"stockade-tests-{os.getpid()}.service"
    unit.mkdir(parents=True)
    process = subprocess.Popen(["/usr/bin/python3", work / "contained.py", work])
    unit_process = Container("unit", work, process.pid, ["kill", "-9", str(process.pid)])
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    threading.Thread(target=answer, args=(listener,), daemon=True).start()
    try:
        (unit / "cgroup.procs").write_text(str(process.pid))
        assert unit_process.do(f"keep 127.0.0.1 {port}") == "outside"
        with attached(machine, machine.room(), POLICY, "--systemd", unit.name.removesuffix(".service")) as running:
            assert unit_process.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
            assert unit_process.do(f"run {CURL} https://{ECHO}/shut") == "0 403"
            assert unit_process.do(f"tcp {network.host} {network.tcp}").startswith("failed")
            assert unit_process.do(f"tcp 127.0.0.1 {port}").startswith("failed")
            assert unit_process.do("say") != "outside"  # what was open before is cut there too
            running.process.terminate()
            result = running.finish()
        (started,) = result.select(reason="started")
        assert [each for each in started["detail"]["connections"] if each.endswith(f"-> 127.0.0.1:{port}")]
        assert not [words for words in started["detail"]["not_held"] if "cannot cut" in words]
        assert started["sandbox"]["labels"]["cgroup"] == f"/{unit.relative_to(mounted())}"
        assert started["detail"]["held"] == "no"  # root in the host's namespaces
        assert "NOT HELD" in result.stderr
        assert unit_process.do(f"tcp {network.host} {network.tcp}") == "outside"
    finally:
        listener.close()
        process.kill()
        process.wait()
        wait_for(lambda: not (unit / "cgroup.procs").read_text(), "an empty cgroup")
        unit.rmdir()
        unit.parent.rmdir()


def test_a_process_of_another_network_is_said_not_to_be_held(machine: Machine, network: Place, place: Path, inside: dict[str, str]) -> None:
    """Its programs hold it, and its frames leave by a device that nobody closed."""
    with Place() as other, Several(place, inside, network.path, other.path) as several:
        with attached(machine, machine.room(), POLICY, "--cgroup", str(several.cgroup)) as running:
            assert several.containers[1].do(f"tcp {other.host} {other.tcp}").startswith("failed")
            several.containers[1].do("packet eth0")
            wait_for(lambda: other.heard == ["frame"], "the frame")
            running.process.terminate()
            result = running.finish()
        said = f"process {several.processes[1].pid} is in another network namespace, whose devices stay open"
        (started,) = result.select(reason="started")
        assert said in started["detail"]["not_held"]
        assert f"NOT HELD: {said}" in result.stderr


def test_who_keeps_net_admin_is_not_held(
    place: Path, container_root: Path, network: Place, inside: dict[str, str], machine: Machine
) -> None:
    work = containers.work_directory(place, inside)
    directory = containers.bundle(work / "bundle", container_root, network, work, capabilities=["CAP_NET_ADMIN"])
    with containers.runc(directory, work) as container, attached(machine, machine.room(), POLICY, "--pid", str(container.pid)) as running:
        running.process.terminate()
        result = running.finish()
    assert "NOT HELD: it keeps CAP_NET_ADMIN" in result.stderr
    (started,) = result.select(reason="started")
    assert started["detail"]["held"] == "no"


def test_a_second_agent_for_one_container_is_refused(shared: tuple[Container, Running], machine: Machine) -> None:
    container, held = shared
    line: list[str | Path] = [STOCKADE, "attach", "--container", container.id, "--policy", held.audit.parent / "policy.yaml"]
    done = subprocess.run(machine.wrap(line), capture_output=True, text=True, check=False)
    assert (done.returncode, "governed already [attached]" in done.stderr) == (2, True), done.stderr
