"""Device files: what a policy shows of them, and what a sandbox is refused that brought one along."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from framework.machine import Machine
from framework.policy import whole

pytestmark = pytest.mark.client("/usr/bin/python3")
FUSE = Path("/dev/fuse")  # opens on every machine that has it: with its numbers a node stands for a GPU
if not FUSE.exists():
    pytest.skip("no /dev/fuse to stand for a GPU", allow_module_level=True)
NUMBERS = f"c {os.major(FUSE.stat().st_rdev)} {os.minor(FUSE.stat().st_rdev)}"


def test_a_device_of_the_policy_is_shown_and_opens_and_without_it_is_not_there(machine: Machine) -> None:
    """No GPU is needed: in the run's own mount namespace /dev/nvidia0 is made."""
    make = (
        "mkdir -p $1; mount -t tmpfs dev $1; cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty $1; mkdir $1/dri;"
        f"mknod -m 666 $1/nvidia0 {NUMBERS}; ln -s null $1/nvidiactl;"
        f"mknod -m 660 $1/dri/renderD128 {NUMBERS}; chgrp 4242 $1/dri/renderD128;"
        'mkdir $1/pts $1/shm; mount --move $1 /dev; shift; exec "$@"'
    )
    script = "import os\nfor name in ('nvidia0', 'dri/renderD128'):\n    os.close(os.open('/dev/' + name, os.O_RDWR))\n"
    script += "print(sorted(os.listdir('/dev')), os.getgroups())\n"
    for process, there in (({"devices": ["nvidia"]}, True), ({}, False)):
        room = machine.room({"open.py": script})
        through = ["sh", "-ec", make, "sh", room / "dev"]
        result = machine.run(["python3", "open.py"], policy=whole(allow=["python3"], process=process), room=room, through=through)
        [started] = result.select(reason="started")
        if there:
            assert (
                result.status == 0 and "'nvidia0'" in result.stdout and "'nvidiactl'" not in result.stdout and "[4242]" in result.stdout
            ), result
            assert started["detail"]["devices"] == ["/dev/dri/renderD128", "/dev/nvidia0"]
        else:
            assert result.status == 1 and "FileNotFoundError" in result.stderr, result
            assert started["detail"]["devices"] == []


def test_a_device_that_came_along_as_standard_input_is_not_opened_again(machine: Machine) -> None:
    """It is there through /dev/stdin, its bits let anybody read, Landlock knows it as a standard stream: the device program refuses it."""
    room = machine.room({"open.py": "import os\nos.open('/dev/stdin', os.O_RDONLY)\n"})
    make = f'mkdir -p $1; mount -t tmpfs dev $1; mknod -m 666 $1/node {NUMBERS}; exec <>$1/node; shift; exec "$@"'
    through = ["sh", "-ec", make, "sh", room / "nodes"]
    result = machine.run(["python3", "open.py"], policy=whole(allow=["python3"]), room=room, through=through)
    assert result.status == 1 and "PermissionError: [Errno 1]" in result.stderr, result
    [record] = result.select(action="device")
    assert (record["decision"], record["effect"], record["reason"]) == ("deny", "refuse", "device_refused")
    assert record["detail"] == {"device": f"char {NUMBERS[2:].replace(' ', ':')}", "access": ["read"]}
