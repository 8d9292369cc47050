"""By what a container could get out of what holds it, told before its first instruction: what its runtime was told, and where it is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stockade.attach.mounts import mounts, named
from stockade.attach.target import PTRACE, PTRACE_WITHIN, Target
from stockade.node.arriving import Arrival
from stockade.node.container import Bundle, First, bundle_of, sockets_in
from stockade.node.powers import powers
from stockade.sandbox.cgroup import Cgroup, mounted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it makes a PID namespace")


WITHOUT = "umount -alt cgroup2,bpf; "  # as runtimes show a container neither, or read-only


@contextmanager
def mounting(command: str) -> Iterator[int]:
    """A process in the machine's PID namespace, and a mount namespace of its own in which that was done."""
    with subprocess.Popen(["unshare", "--mount", "sh", "-ec", f"{command} echo; exec sleep 60"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"\n"
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def ours() -> Iterator[int]:
    with mounting(WITHOUT) as pid:
        yield pid


@pytest.fixture
def apart() -> Iterator[int]:
    """The first of another one."""
    words = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c", f"{WITHOUT} echo; exec sleep 60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        process.kill()


def arrived(pid: int, *capabilities: str, cgroup: Path = Path("/nowhere"), begun: bool = False) -> Arrival:
    """Prepared, and not begun."""
    process: Any = SimpleNamespace(pid=pid, begun=begun)
    bundle = Bundle("main", capabilities=frozenset(capabilities))
    return Arrival("ab" * 32, Cgroup(cgroup), process, 0.0, 0.0, stopped=True, bundle=bundle)


def test_whoever_may_trace_in_the_machines_pid_namespace_acts_through_others(ours: int) -> None:
    assert powers(arrived(ours, "CAP_SYS_PTRACE", "CAP_CHOWN")).fatal == (PTRACE,)
    assert powers(arrived(ours, "CAP_CHOWN")).fatal == ()


def test_and_in_one_of_his_own_through_what_is_executed_there(apart: int) -> None:
    """By a runtime, which comes into that namespace with every capability: `kubectl exec`, a probe, an ephemeral container."""
    assert powers(arrived(apart, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN")).fatal == ("CAP_SYS_ADMIN", PTRACE_WITHIN)
    assert powers(arrived(apart, "CAP_CHOWN")).fatal == ()


def test_the_same_is_told_of_processes_that_run(ours: int, apart: int, tmp_path: Path) -> None:
    """tmp_path: as a cgroup, which lists them."""
    for pid, said in ((ours, PTRACE), (apart, PTRACE_WITHIN)):
        (tmp_path / "cgroup.procs").write_text(f"{pid}\n")
        fatal = Target(Cgroup(tmp_path), pid).fatal()
        assert [each for each in fatal if "PTRACE" in each] == [said]


def test_packets_of_its_own_are_told_apart(apart: int) -> None:
    assert powers(arrived(apart, "CAP_NET_RAW")).raw and powers(arrived(apart, "CAP_NET_RAW")).fatal == ()
    assert not powers(arrived(apart, "CAP_NET_ADMIN")).raw


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[First]:
    """A process whose parent was told where its runtime listens, as a shim of containerd's is; and that it does."""
    words = ["sh", "-c", "sleep 60 & echo $!; wait", "shim", "-namespace", "k8s.io", "-address", f"{tmp_path}/containerd.sock"]
    listener = socket.socket(socket.AF_UNIX)
    with listener, subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        listener.bind(f"{tmp_path}/containerd.sock")
        yield First(int(process.stdout.readline()), 0)
        os.killpg(process.pid, signal.SIGKILL)


def test_whoever_is_shown_a_runtimes_socket_starts_what_nobody_holds(shim: First, tmp_path: Path) -> None:
    found = f"{tmp_path}/containerd.sock"
    said = f"{found}, by which it can start what nobody holds"
    for shown in (found, str(tmp_path), f"{tmp_path}/", f"{tmp_path.parent}/./{tmp_path.name}"):
        bundle = Bundle("main", capabilities=frozenset({"CAP_CHOWN"}), shown=("/etc/hosts", shown))
        fatal = powers(Arrival("ab" * 32, Cgroup(Path("/nowhere")), shim, 0.0, 0.0, stopped=True, bundle=bundle)).fatal
        assert [each for each in fatal if each.endswith("nobody holds")] == [said]
    for shown in (f"{tmp_path}-other", f"{tmp_path}/containerd", "/etc/hosts"):
        assert sockets_in(Bundle(shown=(shown,)), shim) == []
    assert found in sockets_in(Bundle(shown=("/",)), shim)
    (tmp_path / "containerd.sock").unlink()
    (tmp_path / "containerd.sock").touch()
    assert found not in sockets_in(Bundle(shown=("/",)), shim), "nobody listens there"


def test_a_runtime_is_found_by_either_name_of_its_directory(shim: First, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"stockade-test-{os.getpid()}.sock"
    monkeypatch.setattr("stockade.node.container._SOCKETS", (f"/run/{name}",))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/run/{name}")
        try:
            for shown in (f"/run/{name}", f"/var/run/{name}", "/var/run", "/run/"):
                assert sockets_in(Bundle(shown=(shown,)), shim) == [f"/run/{name}"]
        finally:
            Path(f"/run/{name}").unlink()


def test_what_a_bundle_binds_is_shown(tmp_path: Path) -> None:
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sock", "type": "bind", "source": "/run/docker.sock", "options": ["rbind", "ro"]},
        {"destination": "/none", "options": ["bind"]},
    ]
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as parent:
        try:
            (tmp_path / "config.json").write_text(json.dumps({"mounts": mounts}))
            process: Any = SimpleNamespace(parent=parent.pid, root=Path("/"))
            bundle = bundle_of(tmp_path.name, process)
        finally:
            parent.kill()
    assert bundle is not None and bundle.shown == ("/run/docker.sock", "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mount -t cgroup2 none {at}/a;", "{at}/a, by which it can leave what holds it"),
        ("mount -t cgroup2 none {at}/a; mount -o remount,bind,ro {at}/a;", ""),
        ("mount --bind {top} {at}/a;", "{at}/a, by which it can leave what holds it"),
        ("mount --bind {own} {at}/a;", ""),
        ("mount --bind {own}/below {at}/a;", ""),
        ("mount --bind {own}-other {at}/a;", "{at}/a, by which it can leave what holds it"),
        ("mount -t bpf none {at}/a;", "{at}/a, where what holds it is pinned"),
        ("mount -t bpf -o ro none {at}/a;", ""),
        (  # as with `readOnly: true` of a volume, and something mounted below it
            "mkdir {at}/b/c; mount -t bpf none {at}/b/c; mount --rbind {at}/b {at}/a; umount {at}/b/c; mount -o remount,bind,ro {at}/a;",
            "{at}/a/c, where what holds it is pinned",
        ),
    ],
)
def test_what_holds_it_where_it_may_write_that(command: str, said: str, tmp_path: Path) -> None:
    made = [Cgroup.make(f"powers-{os.getpid()}"), Cgroup.make(f"powers-{os.getpid()}-other")]
    own = made[0].path
    (own / "below").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    try:
        where = {"at": str(tmp_path), "top": str(mounted()), "own": str(own)}
        with mounting(command.format(**where)) as pid:
            fatal = powers(arrived(pid, cgroup=own)).fatal
            assert [each for each in fatal if str(tmp_path) in each] == ([said.format(**where)] if said else [])
    finally:
        (own / "below").rmdir()
        for each in made:
            each.path.rmdir()


PIVOTS = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *words):
    assert getattr(libc, name)(*words) == 0, (name, os.strerror(ctypes.get_errno()))
call("unshare", 0x20000)
call("mount", b"none", b"/", None, 0x44000, None)
at = sys.argv[1].encode()
call("mount", b"none", at, b"tmpfs", 0, None)
if sys.argv[2:]:
    os.mkdir(at + b"/kept")
    call("mount", b"none", at + b"/kept", b"cgroup2", 0, None)
os.chdir(at)
call("syscall", 155, b".", b".")
print(flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of pivot_root")
def test_the_root_before_is_not_the_containers(tmp_path: Path) -> None:
    """As a runtime leaves it for a moment, in which the container may be stopped. Who runs and still has it goes there by `/..`."""
    (tmp_path / "cgroup.procs").touch()
    for kept, said in (((), []), (("kept",), ["/kept, by which it can leave what holds it"])):
        with subprocess.Popen([sys.executable, "-c", PIVOTS, tmp_path, *kept], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None and process.stdout.readline() == b"\n"
                there = mounts(process.pid)
                assert [each.point for each in there].count("/") == 2
                assert [each.point for each in named(there)] == ["/", *(f"/{each}" for each in kept)]
                fatal = powers(arrived(process.pid)).fatal
                assert [each for each in fatal if each.startswith("/")] == said
                fatal = powers(arrived(process.pid, cgroup=tmp_path, begun=True)).fatal
                assert f"{mounted()}, by which it can leave what holds it" in fatal
            finally:
                process.kill()
