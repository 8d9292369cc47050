"""Fixtures that build up: probes → internet → machine. What cannot run here is skipped in the probe's own words."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from framework import probes
from framework.internet import Internet
from framework.machine import STOCKADE, Machine
from framework.programs import Programs

# No test is a matter of time: a first call may import scapy, and the machines are noisy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and (missing := probes.governing()):
        pytest.skip(missing)
    for marker in item.iter_markers("client"):
        for command in marker.args:
            if not shutil.which(command, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"):
                pytest.skip(f"no {command} in the system's directories (make setup with --tests installs it)")


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory of root's that a sandbox's uid can enter: pytest's own tmp_path is 0700."""
    directory = Path(tempfile.mkdtemp(prefix=f"stockade-tests-{os.getpid()}-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def internet(place: Path) -> Iterator[Internet]:
    if missing := probes.governing():
        pytest.skip(missing)
    if not shutil.which("nginx"):
        pytest.skip("no nginx: apt-get install nginx-light")
    directory = place / "internet"
    directory.mkdir()
    with Internet(directory) as up:
        yield up


@pytest.fixture(scope="session")
def machine(internet: Internet, place: Path) -> Machine:
    if not STOCKADE.exists():
        pytest.fail(f"{STOCKADE} is missing: make setup")
    return Machine(internet, place)


@pytest.fixture
def small_disk(machine: Machine) -> Iterator[Path]:
    """A room whose trail lies on a disk of its own, of half a MiB; the workdir is elsewhere."""
    room, elsewhere = machine.room(), machine.room()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=755", "tmpfs", room], check=True)
    try:
        (room / "work").mkdir()
        subprocess.run(["mount", "--bind", elsewhere / "work", room / "work"], check=True)
        yield room
    finally:
        subprocess.run(["umount", "-l", room / "work"])
        subprocess.run(["umount", "-l", room])


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    """Built programs lie under /opt: a system directory, seen but not writable from inside."""
    directory = Path(tempfile.mkdtemp(prefix="stockade-tests-", dir="/opt"))
    directory.chmod(0o755)
    yield Programs(directory)
    shutil.rmtree(directory, ignore_errors=True)
