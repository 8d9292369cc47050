"""Containers that their runtime lets Stockade govern before they start: held from the first instruction, with the trust bundle in place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import containers
from framework.containers import Container, Place
from framework.internet import ECHO, OTHER
from framework.machine import STOCKADE, Machine, Record, read_records, select, wait_for
from framework.policy import http, whole
from stockade.service.control import ask, running
from stockade.service.settings import Settings

if missing := containers.lacking("runc"):
    pytest.skip(missing, allow_module_level=True)

POLICY = whole(http(["curl", "python3"], ECHO, methods=["GET"], paths=["/open/**"]), allow=["python3", "curl", "sh"])
CURL = "/usr/bin/curl -sS -o /dev/null -w %{http_code}"


@pytest.fixture
def directory(machine: Machine) -> Path:
    """Policies, settings and trails of this test's own."""
    room = machine.room()
    (room / "policies").mkdir()
    (room / "policies" / "held.yaml").write_text(POLICY)
    (room / "settings.yaml").write_text(f"audit: {{directory: {room}/audit}}\n")
    return room


def hooks(directory: Path, *options: str) -> dict[str, Any]:
    words = [str(STOCKADE), "oci-hook", "--policies", str(directory / "policies"), "--settings", str(directory / "settings.yaml"), *options]
    return {"createRuntime": [{"path": str(STOCKADE), "args": words}]}


def records_of(container: str, directory: Path) -> list[Record]:
    return read_records(directory / "audit" / f"{container}.jsonl")


@pytest.fixture
def container(
    place: Path, container_root: Path, network: Place, inside: dict[str, str], machine: Machine, directory: Path
) -> Iterator[Container]:
    work = containers.work_directory(place, inside)
    annotations = {"stockade.policy": "held"}
    bundle = containers.bundle(
        work / "bundle", container_root, network, work, capabilities=["CAP_NET_RAW"], annotations=annotations, hooks=hooks(directory)
    )
    with containers.runc(bundle, work, machine) as up:
        yield up


def test_a_container_is_held_from_its_first_instruction(container: Container, directory: Path, network: Place) -> None:
    """TLS is inspected without a word to the client: it trusts what it was given."""
    assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"
    assert container.do(f"run {CURL} https://{ECHO}/shut") == "0 403"
    assert container.do(f"run {CURL} -X POST https://{ECHO}/open/a") == "0 403"
    assert container.do(f"run {CURL} https://{OTHER}/").startswith("6 ")
    assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed"))
    assert container.do(f"tcp {network.host} {network.tcp}").startswith("failed")
    assert container.do(f"udp {network.host} {network.udp}").startswith("failed")
    container.do("packet eth0")
    assert network.heard == []
    found = records_of(container.id, directory)
    (started,) = [record for record in found if record["reason"] == "started"]
    assert started["detail"]["trust_store"] == containers.BUNDLE
    assert (started["detail"]["held"], started["detail"]["not_held"]) == ("yes", [])  # its runtime's own process has every capability
    first = next(record for record in found if record["action"] == "exec")
    assert (first["binary"]["path"], first["decision"]) == ("/usr/bin/python3", "allow")
    assert first["pid"] == container.pid
    (allowed,) = [record for record in found if record["action"] == "http" and record["decision"] == "allow"]
    assert allowed["http"]["path"] == "/open/a"
    assert {record["sandbox"]["labels"]["image"] for record in found} == {containers.IMAGE}
    container.end()
    wait_for(lambda: select(records_of(container.id, directory), reason="stopped"), "the end of its agent")
    wait_for(lambda: container.id not in running(Settings().control), "nobody to ask")


def test_a_signal_to_the_agent_lets_go_of_nothing_and_a_command_does(container: Container, directory: Path, network: Place) -> None:
    """Whoever ends processes that are in the way does not mean to let a container out."""
    agent = ask(Settings().control, container.id, "status")["pid"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        os.kill(agent, number)
    words = [
        f"stockade: {name}: the agent stays until its container ends, or `stockade attach --let-go {container.id}`"
        for name in ("SIGTERM", "SIGINT", "SIGQUIT")
    ]
    wait_for(lambda: set(words) <= set((directory / "audit" / f"{container.id}.log").read_text().splitlines()), "its words")
    assert container.do(f"run {CURL} https://{ECHO}/open/a") == "0 200"  # and serves on
    assert container.do(f"tcp {network.host} {network.tcp}").startswith("failed")
    assert network.heard == [] and not select(records_of(container.id, directory), reason="stopped")
    done = subprocess.run([STOCKADE, "attach", "--let-go", container.id], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert container.id not in running(Settings().control)
    (stopped,) = select(records_of(container.id, directory), reason="stopped")
    assert stopped["detail"]["why"] == "it was let go of, and is not governed any more"
    assert container.do(f"tcp {network.host} {network.tcp}") == "outside"
    again = subprocess.run([STOCKADE, "attach", "--let-go", container.id], capture_output=True, text=True, check=False)
    assert (again.returncode, f"no sandbox called {container.id} is running [no_sandbox]" in again.stderr) == (2, True), again


def test_what_the_container_could_write_is_not_read_later_either(container: Container, directory: Path) -> None:
    """Its mounts are its own by then."""
    assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed"))
    (container.work / "mine.yaml").write_text(POLICY.replace('"sh"', '"sh", "sleep"').replace("- sh\n", "- sh\n  - sleep\n"))
    link = directory / "policies" / "link"
    link.symlink_to(container.work / "mine.yaml")
    link.rename(directory / "policies" / "held.yaml")
    (refused,) = wait_for(lambda: select(records_of(container.id, directory), reason="reload_refused"), "the refusal")
    assert "as /work/mine.yaml" in refused["detail"]["why"]
    assert container.do("run /usr/bin/sleep 0").startswith(("-9", "failed"))


def test_a_container_that_starts_again_is_held_again(
    place: Path, container_root: Path, network: Place, inside: dict[str, str], machine: Machine, directory: Path
) -> None:
    """At once, under its name: the hook waits for the agent of its life before to write its last record."""
    work = containers.work_directory(place, inside)
    bundle = containers.bundle(
        work / "bundle",
        container_root,
        network,
        work,
        capabilities=["CAP_NET_RAW", "CAP_NET_ADMIN"],
        annotations={"stockade.policy": "held"},
        hooks=hooks(directory),
    )
    first = containers.runc(bundle, work, machine)
    subprocess.run(["runc", "delete", "-f", first.id], check=True)
    with containers.runc(bundle, work, machine, first.id) as again:
        assert again.do(f"run {CURL} https://{ECHO}/shut") == "0 403"
        assert [record["reason"] for record in records_of(again.id, directory) if record["action"] == "lifecycle"][-3:] == [
            "started",
            "stopped",
            "started",
        ]
        for started in select(records_of(again.id, directory), reason="started"):
            assert (started["detail"]["held"], started["detail"]["not_held"]) == ("no", ["it keeps CAP_NET_ADMIN"])


@pytest.mark.parametrize(("policy", "code"), [("missing", "no_policy"), ("../../etc/passwd", "bad_name"), ("broken", "policy")])
def test_a_container_that_cannot_be_governed_does_not_start(
    place: Path,
    container_root: Path,
    network: Place,
    inside: dict[str, str],
    machine: Machine,
    directory: Path,
    policy: str,
    code: str,
) -> None:
    (directory / "policies" / "broken.yaml").write_text("version: 1\nnetwork: 7\n")
    work = containers.work_directory(place, inside)
    chosen = {"stockade.policy": policy}
    bundle = containers.bundle(work / "bundle", container_root, network, work, annotations=chosen, hooks=hooks(directory))
    with pytest.raises(AssertionError, match=rf"\[{code}\]"):
        containers.runc(bundle, work, machine)
    assert not list(work.glob("done-*"))
    subprocess.run(["umount", bundle / "rootfs"], check=False)


def test_who_names_no_policy_is_left_alone_unless_all_must(
    place: Path, container_root: Path, network: Place, inside: dict[str, str], machine: Machine, directory: Path
) -> None:
    work = containers.work_directory(place, inside)
    bundle = containers.bundle(work / "bundle", container_root, network, work, hooks=hooks(directory))
    with containers.runc(bundle, work, machine) as container:
        assert container.do(f"tcp {network.host} {network.tcp}") == "outside"
    work = containers.work_directory(place, inside)
    bundle = containers.bundle(work / "bundle", container_root, network, work, hooks=hooks(directory, "--require"))
    with pytest.raises(AssertionError, match=r"\[no_policy\]"):
        containers.runc(bundle, work, machine)
    subprocess.run(["umount", bundle / "rootfs"], check=False)


@pytest.mark.parametrize("runtime", ["runc", "podman", "containerd"])
def test_what_a_runtime_must_be_told_is_printed(runtime: str) -> None:
    line = [str(STOCKADE), "oci-hook", "--install", runtime, "--default", "web", "--embedded"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    hook = said["hook"] if runtime == "podman" else said["hooks"]["createRuntime"][0]
    assert hook["args"][1:] == ["oci-hook", "--default", "web", "--embedded"]
    assert os.access(hook["path"], os.X_OK)
    assert Path(hook["path"]).parent == Path(sys.executable).parent
