"""The device program, on a cgroup whose processes are root and see every device file of the machine: what it alone lets through."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.box import PYTHON, Actor, Box
from stockade.kernel import devices
from stockade.kernel.abi import EventType, Verdict
from stockade.kernel.devices import MKNOD, READ, WRITE, Device

OPEN = "import os\ndef try_open(path, flags):\n    os.close(os.open(path, flags))\n"
FUSE = Device(10, 229)  # opens for root on every machine that has the node: here it stands for a GPU


@pytest.fixture
def guarded(box: Box) -> Callable[..., Actor]:
    """A process in a box whose cgroup may open the usual devices, and these."""

    def make(*allowed: Device) -> Actor:
        box.enrol(PYTHON)
        box.guard_devices(allowed)
        actor = box.actor()
        actor(OPEN)
        box.heard()
        return actor

    return make


@pytest.fixture
def node(tmp_path: Path) -> Callable[[int, int, int], Path]:
    """A device file that the test makes, from outside, where the file system allows device files."""

    def make(kind: int, major: int, minor: int) -> Path:
        path = tmp_path / f"{major}-{minor}"
        os.mknod(path, kind | 0o666, os.makedev(major, minor))
        return path

    return make


def test_the_devices_of_every_sandbox_open(guarded: Callable[..., Actor], box: Box) -> None:
    actor = guarded()
    for name in ("null", "zero", "full", "random", "urandom", "ptmx"):
        actor(f"try_open('/dev/{name}', os.O_RDWR)")
    actor("parent, child = os.openpty(); os.write(child, b'x'); os.close(parent); os.close(child)")
    assert box.heard() == []


@pytest.mark.parametrize(
    ("kind", "numbers", "what"),
    [
        (stat.S_IFCHR, (1, 11), "the kernel's log"),
        (stat.S_IFCHR, (1, 1), "memory"),
        (stat.S_IFCHR, (10, 229), "FUSE"),
        (stat.S_IFCHR, (4, 0), "a console"),
        (stat.S_IFBLK, (7, 0), "a loop device"),
        (stat.S_IFBLK, (1, 3), "a block device with the numbers of null"),
    ],
)
def test_every_other_device_is_refused(
    guarded: Callable[..., Actor], box: Box, node: Callable[[int, int, int], Path], kind: int, numbers: tuple[int, int], what: str
) -> None:
    path = node(kind, *numbers)
    actor = guarded()
    with pytest.raises(PermissionError) as refused:
        actor(f"try_open({str(path)!r}, os.O_RDONLY | os.O_NONBLOCK)")
    assert refused.value.errno == errno.EPERM, what
    [event] = box.heard()
    assert (event.type, event.verdict, event.port, event.name) == (EventType.DEVICE, Verdict.DENY, *numbers)
    assert event.protocol == (1 if kind == stat.S_IFBLK else 2) << 8 | READ


def test_what_was_asked_is_told(guarded: Callable[..., Actor], box: Box, node: Callable[[int, int, int], Path]) -> None:
    path = node(stat.S_IFCHR, 10, 229)
    actor = guarded()
    with pytest.raises(PermissionError):
        actor(f"try_open({str(path)!r}, os.O_RDWR)")
    with pytest.raises(PermissionError):
        actor(f"os.mknod({str(path) + '-made'!r}, {stat.S_IFCHR | 0o600}, os.makedev(1, 3))")  # of null, which may be opened
    assert [event.protocol & 0xFF for event in box.heard()] == [READ | WRITE, MKNOD]


def test_a_device_that_is_asked_for_opens_and_no_other_of_its_kind(
    guarded: Callable[..., Actor], box: Box, node: Callable[[int, int, int], Path]
) -> None:
    ours, other = node(stat.S_IFCHR, 10, 229), node(stat.S_IFCHR, 10, 235)
    actor = guarded(FUSE)
    actor(f"try_open({str(ours)!r}, os.O_RDWR)")
    with pytest.raises(PermissionError):
        actor(f"try_open({str(other)!r}, os.O_RDONLY)")
    assert [event.name for event in box.heard()] == [235]


def test_whoever_is_not_in_the_cgroup_is_not_meant(guarded: Callable[..., Actor], node: Callable[[int, int, int], Path]) -> None:
    guarded()
    os.close(os.open(node(stat.S_IFCHR, 10, 229), os.O_RDWR))


def test_the_list_is_what_the_page_of_devices_says() -> None:
    """Documentation/admin-guide/devices.txt: 1 is memory, 5 the terminals, 136 to 143 the slaves of pseudo-terminals."""
    for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx"):
        state = Path("/dev", name).stat()
        assert Device(os.major(state.st_rdev), os.minor(state.st_rdev)) in devices.SAFE, name
    assert {device.major for device in devices.SAFE if device.minor is None} == set(range(136, 144))
