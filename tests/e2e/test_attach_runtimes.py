"""Containers of podman and of containerd are attached to and governed from the start; those of a pod are told apart."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import containers
from framework.containers import IMAGE, Containerd, Place, Podman, attached
from framework.internet import ECHO, H1
from framework.machine import STOCKADE, Machine, read_records, select, wait_for
from framework.policy import http, whole

CURL = "/usr/bin/curl -sS -k -o /dev/null -w %{http_code}"


def policy(*hosts: str) -> str:
    return whole(http("curl", *hosts, methods=["GET"], paths=["/open/**"]), allow=["python3", "curl"])


@pytest.fixture(scope="module")
def image(place: Path, container_root: Path) -> Path:
    return containers.archive(container_root, place / "image.tar")


@pytest.fixture(scope="module")
def podman(place: Path, image: Path) -> Iterator[Podman]:
    if missing := containers.lacking("podman", "runc", "conmon"):
        pytest.skip(missing)
    with Podman(place / "podman") as up:
        up("load", "-i", image)
        yield up


@pytest.fixture(scope="module")
def containerd(place: Path, image: Path, machine: Machine) -> Iterator[Containerd]:
    if missing := containers.lacking("containerd", "ctr", "runc"):
        pytest.skip(missing)
    with Containerd(place / "containerd", machine) as up:
        up("images", "import", image)
        yield up


def test_a_container_of_podman(podman: Podman, machine: Machine, network: Place, place: Path, inside: dict[str, str]) -> None:
    """By its cgroup, which says whose it is too."""
    work = containers.work_directory(place, inside)
    with podman.run("attached-web", work, network) as container:
        path = next(line[3:] for line in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
        with attached(machine, machine.room(), policy(ECHO), "--cgroup", path) as held:
            assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
            assert container.do(f"run {CURL} https://{ECHO}/shut") == "0 403"
            assert container.do(f"tcp {network.host} {network.tcp}").startswith("failed")
            held.process.terminate()
            result = held.finish()
    assert result.status == 0, result
    labels = {json.dumps(record["sandbox"]["labels"], sort_keys=True) for record in result.records}
    assert labels == {json.dumps({"container": "attached-web", "container_id": container.id, "image": IMAGE}, sort_keys=True)}
    assert result.records[0]["sandbox"]["name"] == "attached-web"


def test_a_container_of_containerd(containerd: Containerd, machine: Machine, network: Place, place: Path, inside: dict[str, str]) -> None:
    work = containers.work_directory(place, inside)
    with (
        containerd.run("attached-ctr", work, network) as container,
        attached(machine, machine.room(), policy(ECHO), "--container", "attached-ctr") as held,
    ):
        assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
        assert container.do(f"run {CURL} https://{ECHO}/shut") == "0 403"
        assert container.do(f"udp {network.host} {network.udp}").startswith("failed")
        held.process.terminate()
        result = held.finish()
    assert result.status == 0, result
    (started,) = result.select(reason="started")
    assert started["sandbox"]["labels"] == {"container": "attached-ctr", "container_id": "attached-ctr", "image": IMAGE}
    assert started["detail"]["runtime"] == "containerd"


def test_the_containers_of_a_pod_are_told_apart(
    podman: Podman, machine: Machine, network: Place, place: Path, inside: dict[str, str]
) -> None:
    """One network namespace, two policies: what one may reach the other may not, and each is in its own trail."""
    first, second = (containers.work_directory(place, inside) for _ in range(2))
    with (
        podman.run("pod-one", first, network) as one,
        podman.run("pod-two", second, network) as two,
        attached(machine, machine.room(), policy(ECHO), "--container", "pod-one") as held_one,
        attached(machine, machine.room(), policy(H1), "--container", "pod-two") as held_two,
    ):
        for _ in range(3):
            assert one.do(f"run {CURL} https://{ECHO}/open/one") == "0 200"
            assert two.do(f"run {CURL} https://{H1}/open/two") == "0 200"
            assert one.do(f"run {CURL} https://{H1}/open/one").startswith("6 ")
            assert two.do(f"run {CURL} https://{ECHO}/open/two").startswith("6 ")
        trails = [read_records(held.audit) for held in (held_one, held_two)]
        held_one.process.terminate()
        held_one.finish()
        assert two.do(f"run {CURL} https://{H1}/open/two") == "0 200"  # it is still held by its own
        assert two.do(f"tcp {network.host} {network.tcp}").startswith("failed")
        two.do("packet eth0")
        assert network.heard == []
    for records, name, host in zip(trails, ("pod-one", "pod-two"), (ECHO, H1), strict=True):
        assert {record["sandbox"]["labels"]["container"] for record in records} == {name}
        allowed = select(records, action="http", decision="allow")
        assert {record["destination"]["host"] for record in allowed} == {host}
        assert len(allowed) == 3


def hooked(machine: Machine) -> Path:
    """Policies, settings and trails of this test's own, and the hooks.d of a podman that knows them."""
    room = machine.room()
    (room / "policies").mkdir()
    (room / "policies" / "held.yaml").write_text(policy(ECHO))
    (room / "settings.yaml").write_text(f"audit: {{directory: {room}/audit}}\n")
    options: list[str | Path] = ["--policies", room / "policies", "--settings", room / "settings.yaml"]
    said = subprocess.run([STOCKADE, "oci-hook", "--install", "podman", *options], capture_output=True, text=True, check=True).stdout
    (room / "hooks").mkdir()
    (room / "hooks" / "stockade.json").write_text(said)
    return room


@pytest.mark.parametrize("annotation", ["stockade.policy", "stockade.preset"])
def test_podman_starts_no_container_whose_annotation_names_nothing(
    podman: Podman, machine: Machine, network: Place, place: Path, inside: dict[str, str], annotation: str
) -> None:
    """It is there, so somebody meant to have the container governed: podman runs the hook, which refuses."""
    room, work = hooked(machine), containers.work_directory(place, inside)
    with pytest.raises(AssertionError, match=rf"{annotation} is there, and names nothing"):
        podman.run(f"unnamed-{annotation[-6:]}", work, network, "--annotation", f"{annotation}=", hooks=room / "hooks", machine=machine)
    assert not list(work.glob("done-*"))


def test_podman_lets_a_container_be_governed_before_it_starts(
    podman: Podman, machine: Machine, network: Place, place: Path, inside: dict[str, str]
) -> None:
    """By its own hooks.d, from what `--install podman` prints."""
    room = hooked(machine)
    work = containers.work_directory(place, inside)
    annotated = ("--annotation", "stockade.policy=held")
    with podman.run("hooked-web", work, network, *annotated, hooks=room / "hooks", machine=machine) as container:
        assert container.do(f"run /usr/bin/curl -sS -o /dev/null -w %{{http_code}} https://{ECHO}/open/a") == "0 200"
        assert container.do(f"run {CURL} https://{ECHO}/shut") == "0 403"
        records = wait_for(lambda: read_records(room / "audit" / "hooked-web.jsonl"), "its trail")
    assert {record["sandbox"]["labels"]["image"] for record in records} == {IMAGE}
    trail = room / "audit" / "hooked-web.jsonl"
    wait_for(lambda: select(read_records(trail), reason="stopped"), "the end of its agent")


def test_containerd_lets_a_container_be_governed_before_it_starts(
    containerd: Containerd, machine: Machine, network: Place, place: Path, container_root: Path, inside: dict[str, str]
) -> None:
    """By the runtime spec, with what `--install containerd` prints in it."""
    room = machine.room()
    (room / "policies").mkdir()
    (room / "policies" / "held.yaml").write_text(policy(ECHO))
    (room / "settings.yaml").write_text(f"audit: {{directory: {room}/audit}}\n")
    options: list[str | Path] = ["--policies", room / "policies", "--settings", room / "settings.yaml", "--default", "held"]
    said = subprocess.run([STOCKADE, "oci-hook", "--install", "containerd", *options], capture_output=True, text=True, check=True).stdout
    work = containers.work_directory(place, inside)
    bundle = containers.bundle(work / "bundle", container_root, network, work, hooks=json.loads(said)["hooks"])
    try:
        with containerd.run_spec("hooked-ctr", bundle, container_root, work) as container:
            assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
            assert container.do(f"run {CURL} https://{ECHO}/shut") == "0 403"
            trail = room / "audit" / "hooked-ctr.jsonl"
            (started,) = select(read_records(trail), reason="started")
            assert started["detail"]["trust_store"] == containers.BUNDLE
    finally:
        subprocess.run(["umount", bundle / "rootfs"], check=False)


def test_a_container_that_is_not_there() -> None:
    done = subprocess.run([STOCKADE, "attach", "--container", "nobody", "--preset", "pypi"], capture_output=True, text=True, check=False)
    assert (done.returncode, "no running container is nobody [no_container]" in done.stderr) == (2, True)
    assert shutil.which("runc") is None or "hint: running here" in done.stderr
