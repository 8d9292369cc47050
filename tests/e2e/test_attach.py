"""A container that runs already is attached to: what its processes may and may not reach afterwards, and what is written down of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import containers
from framework.containers import BUNDLE, Container, Place, attached
from framework.internet import ECHO, OTHER
from framework.machine import Machine, Running
from framework.policy import http, relay, whole

if missing := containers.lacking("runc"):
    pytest.skip(missing, allow_module_level=True)

POLICY = whole(
    http(["curl", "python3"], ECHO, methods=["GET"], paths=["/open/**"]),
    relay("cat", OTHER, tls="passthrough"),
    allow=["python3", "curl", "sh", "cat"],
)


@pytest.fixture(scope="module")
def root(place: Path) -> Path:
    directory = place / "root"
    directory.mkdir()
    return containers.root_filesystem(directory, Path(BUNDLE))


@pytest.fixture
def network() -> Iterator[Place]:
    with Place() as up:
        yield up


@pytest.fixture
def container(place: Path, root: Path, network: Place, inside: dict[str, str]) -> Iterator[Container]:
    work = containers.work_directory(place, inside)
    directory = containers.bundle(work / "bundle", root, network, work, capabilities=["CAP_NET_RAW"])
    with containers.runc(directory, work) as up:
        yield up


@pytest.fixture
def held(machine: Machine, container: Container) -> Iterator[Running]:
    with attached(machine, machine.room(), POLICY, "--container", container.id) as running:
        yield running


def test_a_container_that_runs_is_held_to_its_policy(container: Container, held: Running, network: Place) -> None:
    assert container.do(f"run /usr/bin/curl -sS -k -o /dev/null -w %{{http_code}} https://{ECHO}/open/a").startswith("0 200")
    (started,) = [record for record in held.records() if record["reason"] == "started"]
    assert started["sandbox"]["labels"]["container"] == container.id
