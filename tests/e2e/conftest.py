"""Every test here drives the real command on the live kernel."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import containers
from framework.attaching import POLICY
from framework.containers import Container, Place, attached
from framework.daemon import SETTINGS, Daemon
from framework.machine import Machine, Running
from stockade.kernel.load import mounted_bpffs

INSIDE = Path(__file__).parent / "inside"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def inside() -> dict[str, str]:
    """The programs that run in the sandbox, by file name: what to put into a run's workdir."""
    return {path.name: path.read_text() for path in INSIDE.glob("*.py")}


@pytest.fixture(scope="session")
def container_root(place: Path) -> Path:
    """The root file system of the tests' containers, which no container writes to."""
    directory = place / "root"
    directory.mkdir()
    return containers.root_filesystem(directory, Path(containers.BUNDLE))


@pytest.fixture
def network() -> Iterator[Place]:
    """Where a container may live."""
    with Place() as up:
        yield up


@pytest.fixture
def container(place: Path, container_root: Path, network: Place, inside: dict[str, str]) -> Iterator[Container]:
    """One that runs, on that network, with raw sockets."""
    work = containers.work_directory(place, inside)
    directory = containers.bundle(work / "bundle", container_root, network, work, capabilities=["CAP_NET_RAW"])
    with containers.runc(directory, work) as up:
        yield up


@pytest.fixture
def held(machine: Machine, container: Container) -> Iterator[Running]:
    """Attached to that container."""
    with attached(machine, machine.room(), POLICY, "--container", container.id) as running:
        yield running


@pytest.fixture(scope="module")
def serving(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that serves when a test of the module begins."""
    mounted_bpffs(SETTINGS.run / "bpf")  # in this mount namespace, or the pins go with the daemon's own
    daemon = Daemon(machine, tmp_path_factory.mktemp("daemon"))
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.end(signal.SIGTERM)
