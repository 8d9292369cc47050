"""Whether a container could write a file of this machine, by what is mounted in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stockade.attach.mounts import Mount
from stockade.attach.target import Target
from stockade.attach.volumes import refuse_writable, shown_as
from stockade.sandbox.cgroup import Cgroup
from stockade.types import StockadeError

HERE = [Mount("8:1", "/", "/", True), Mount("8:2", "/", "/srv", True), Mount("8:1", "/data/etc", "/etc/stockade", True)]


@pytest.mark.parametrize(
    ("path", "mount", "shown"),
    [
        ("/etc/web.yaml", Mount("8:1", "/etc", "/config", True), "/config/web.yaml"),
        ("/etc/web.yaml", Mount("8:1", "/etc/web.yaml", "/web", True), "/web"),
        ("/etc/web.yaml", Mount("8:1", "/", "/host", True), "/host/etc/web.yaml"),
        ("/etc/web.yaml", Mount("8:1", "/etc", "/config", False), None),  # read-only
        ("/etc/web.yaml", Mount("8:1", "/etcetera", "/config", True), None),
        ("/etc/web.yaml", Mount("8:2", "/", "/srv", True), None),  # another file system
        ("/srv/web.yaml", Mount("8:2", "/", "/work", True), "/work/web.yaml"),
        ("/etc/stockade/web.yaml", Mount("8:1", "/data", "/data", True), "/data/etc/web.yaml"),  # a bind mount here
        ("/etc/stockade/web.yaml", Mount("8:1", "/etc", "/config", True), None),
    ],
)
def test_a_file_is_shown_by_its_file_system(path: str, mount: Mount, shown: str | None) -> None:
    there = [Mount("0:9", "/", "/", True), mount]
    assert shown_as(Path(path), iter(there), iter(HERE)) == shown


def test_before_it_starts_only_what_is_below_its_root_counts() -> None:
    """Its mount namespace is still a copy of the machine's."""
    there = [*HERE, Mount("8:1", "/etc", "/run/c/rootfs/config", True)]
    assert shown_as(Path("/srv/web.yaml"), iter(there), iter(HERE), "/run/c/rootfs") is None
    assert shown_as(Path("/etc/web.yaml"), iter(there), iter(HERE), "/run/c/rootfs") == "/config/web.yaml"


def test_where_nobody_can_be_asked_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "policy.yaml").touch()
    with pytest.raises(StockadeError, match="nothing runs") as caught:
        refuse_writable(tmp_path / "policy.yaml", Target(Cgroup(tmp_path), 2**22), "a policy source")
    assert caught.value.code == "no_process"


ANOTHER = """
import os, sys
from stockade.sandbox import libc
place = sys.argv[1]
os.unshare(libc.CLONE_NEWNS)
libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
libc.mount("none", f"{place}/root", "tmpfs")
os.mkdir(f"{place}/root/etc")
libc.bind(place, f"{place}/root/etc", 0)
libc.pivot_root(f"{place}/root")
print("up", flush=True)
sys.stdin.readline()
"""


KEEPS = """
import ctypes, os, sys
from stockade.sandbox import libc
os.unshare(libc.CLONE_NEWNS)
libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
libc.mount("none", sys.argv[1], "tmpfs")
os.chdir(sys.argv[1])
assert ctypes.CDLL(None).pivot_root(b".", b".") == 0
print("up", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
def test_the_root_before_counts_where_it_was_never_taken_away(tmp_path: Path) -> None:
    """It lies upon the new one, and `/..` leads there."""
    (tmp_path / "root").mkdir()
    (policy := tmp_path / "policy.yaml").touch()
    with subprocess.Popen([sys.executable, "-c", KEEPS, tmp_path / "root"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert Path(f"/proc/{process.pid}/root/../{policy}").exists()
        (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n")
        with pytest.raises(StockadeError, match="can be written") as caught:
            refuse_writable(policy, Target(Cgroup(tmp_path), process.pid), "a policy source")
        process.communicate(b"\n")
    assert caught.value.code == "writable_source"


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
def test_each_mount_namespace_of_the_cgroup_is_asked(tmp_path: Path) -> None:
    """The first process has none of the volumes that the second has."""
    (tmp_path / "policy.yaml").touch()
    (tmp_path / "root").mkdir()
    command = [sys.executable, "-c", ANOTHER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        for words in (f"{os.getpid()}\n", f"{os.getpid()}\n{other.pid}\n"):
            (tmp_path / "cgroup.procs").write_text(words)
            target = Target(Cgroup(tmp_path), os.getpid())
            if str(other.pid) not in words:
                refuse_writable(tmp_path / "policy.yaml", target, "a policy source")
                continue
            with pytest.raises(StockadeError, match=r"as /etc/policy\.yaml"):
                refuse_writable(tmp_path / "policy.yaml", target, "a policy source")
        other.communicate(b"\n")
