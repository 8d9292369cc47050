"""Landlock by trying it: each ABI's ruleset in a child that restricts itself to it, and what is then refused and what is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stockade.sandbox import landlock
from stockade.sandbox.landlock import ADDS, NEWEST, Right
from stockade.sandbox.plan import Bind, Plan

HERE = landlock.abi()
pytestmark = pytest.mark.skipif(not HERE, reason="landlock_create_ruleset(2) says that this kernel has no Landlock")

# /dev/null stands for a device: readable and writable everywhere, and it answers no ioctl.
TRIED = """\
def tried(attempt, *arguments):
    try:
        attempt(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""
CHILD = """
import errno, fcntl, json, os, socket, sys
sys.path.insert(0, {agent!r})
from stockade.sandbox import landlock, libc
version, room = int(sys.argv[1]), sys.argv[2]
outside = socket.socket(socket.AF_UNIX); outside.bind("\\0stockade-test-%d" % os.getpid()); outside.listen()
name = outside.getsockname()
ruleset = landlock.create(version)
granted = {{"/": landlock.READ, room + "/open": landlock.WRITE, "/dev/null": landlock.NODE, "/dev/full": landlock.TERMINAL}}
for path, rights in granted.items():
    fd = os.open(path, os.O_PATH)
    landlock.allow(ruleset, fd, rights, version)
    os.close(fd)
libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
landlock.restrict(ruleset, version)

{tried}
def ioctl(path):
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.ioctl(fd, 0x5401, bytes(64))  # TCGETS
    finally:
        os.close(fd)

found = dict(
    read=tried(os.listdir, room + "/shut"),
    write=tried(os.open, room + "/shut/file", os.O_WRONLY),
    make=tried(os.open, room + "/open/made", os.O_CREAT | os.O_WRONLY),
    make_outside=tried(os.open, room + "/shut/made", os.O_CREAT | os.O_WRONLY),
    run=tried(os.execv, "/usr/bin/true", ["true"]),
    refer=tried(os.rename, room + "/open/a/file", room + "/open/b/file"),
    truncate=tried(os.truncate, room + "/shut/file", 0),
    ioctl=tried(ioctl, "/dev/null"),
    ioctl_granted=tried(ioctl, "/dev/full"),
    signal=tried(os.kill, os.getppid(), 0),
    socket=tried(socket.socket(socket.AF_UNIX).connect, name),
)
print(json.dumps(found))
"""


def under(version: int, room: Path) -> dict[str, str]:
    for name in ("open/a", "open/b", "shut"):
        (room / name).mkdir(parents=True)
    for name in ("open/a/file", "shut/file"):
        (room / name).write_text("text")
    program = CHILD.format(agent=str(Path(landlock.__file__).parents[2]), tried=TRIED)
    done = subprocess.run([sys.executable, "-c", program, str(version), str(room)], stdout=subprocess.PIPE, check=True, timeout=20)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("version", range(1, HERE + 1))
def test_what_an_abi_refuses(version: int, tmp_path: Path) -> None:
    found = under(version, tmp_path)
    assert (found["read"], found["make"]) == ("done", "done")
    assert {found[what] for what in ("write", "make_outside", "run")} == {"EACCES"}, found
    assert found["refer"] == ("done" if version >= 2 else "EXDEV"), found
    assert found["truncate"] == ("EACCES" if version >= 3 else "done"), found
    assert found["ioctl"] == ("EACCES" if version >= 5 else "ENOTTY"), found
    assert found["ioctl_granted"] == "ENOTTY", found
    assert (found["signal"], found["socket"]) == (("EPERM", "EPERM") if version >= 6 else ("done", "done")), found


ALONE = """
import errno, json, os, sys
sys.path.insert(0, {agent!r})
from stockade.sandbox import landlock, libc
from stockade.sandbox.plan import Bind, Plan
room = sys.argv[1]
binds = (Bind("/usr", "/usr"), Bind(room + "/work", room + "/work", True, False))
plan = Plan("box", 1, "", (), (), {{}}, "/", binds, {{}}, {{}}, (), room + "/home", b"", landlock=landlock.abi())
ruleset = landlock.rules(landlock.grants(plan), plan.landlock)
libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
landlock.restrict(ruleset, plan.landlock)

{tried}
made = os.O_CREAT | os.O_WRONLY
print(json.dumps({{
    "work": tried(os.open, room + "/work/made", made),
    "home": tried(os.open, room + "/home/made", made),
    "tmp": tried(os.listdir, "/tmp"),
    "system": tried(os.open, "/usr/bin/env", os.O_RDONLY),
    "proc": tried(os.open, "/proc/self/status", os.O_RDONLY),
    "null": tried(os.open, "/dev/null", os.O_RDWR),
    "beside": tried(os.open, room + "/beside", os.O_RDONLY),
    "made beside": tried(os.open, room + "/made", made),
    "made in the system": tried(os.open, "/usr/made-by-a-test", made),
    "written in proc": tried(os.open, "/proc/self/comm", os.O_WRONLY),
    "kernel log": tried(os.open, "/dev/kmsg", os.O_RDONLY),
    "node": tried(os.mknod, room + "/work/node", 0o020600, os.makedev(1, 3)),
    "run": tried(os.execv, room + "/work/program", ["program"]),
    "through proc": tried(os.open, "/proc/self/root" + room + "/beside", os.O_RDONLY),
}}))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: else plain permissions would refuse")
def test_the_rules_alone_hold_root_without_any_mount_namespace() -> None:
    """On the machine's own root, as root: what the plan shows works, and what no rule names is refused by Landlock and nothing else."""
    room = Path(tempfile.mkdtemp(dir="/opt"))
    try:
        for name in ("work", "home"):
            (room / name).mkdir()
        (room / "beside").write_text("secret")
        shutil.copy("/usr/bin/true", room / "work/program")
        program = ALONE.format(agent=str(Path(landlock.__file__).parents[2]), tried=TRIED)
        done = subprocess.run([sys.executable, "-c", program, str(room)], stdout=subprocess.PIPE, check=True, timeout=20)
    finally:
        shutil.rmtree(room)
    found = json.loads(done.stdout)
    for what in ("work", "home", "tmp", "system", "proc", "null"):
        assert found.pop(what) == "done", what
    assert set(found.values()) == {"EACCES"}, found


def plan(**more: object) -> Plan:
    given: dict[str, object] = {
        "name": "box",
        "user": 1,
        "cgroup": "",
        "joins": (),
        "argv": (),
        "environment": {},
        "workdir": "/work",
        "binds": (Bind("/usr", "/usr"), Bind("/srv/data", "/data", executable=False), Bind("/srv/work", "/work", True, False)),
        "links": {},
        "files": {},
        "hidden": (),
        "home": "/home/agent",
        "seccomp": b"",
        "landlock": NEWEST,
    }
    return Plan(**(given | more))  # type: ignore[arg-type]


def test_the_rules_are_what_the_plan_shows() -> None:
    granted = dict(landlock.grants(plan()))
    assert granted["/"] is Right.READ_DIR
    assert granted["/usr"] == Right.READ_FILE | Right.READ_DIR | Right.EXECUTE
    assert granted["/data"] == granted["/etc"] == granted["/proc"] == Right.READ_FILE | Right.READ_DIR
    assert granted["/work"] == granted["/tmp"] == granted["/home/agent"] == landlock.WRITE
    assert not any(rights & (Right.MAKE_CHAR | Right.MAKE_BLOCK) for rights in granted.values())
    assert {path for path, rights in granted.items() if rights & Right.EXECUTE} == {"/usr"}
    assert {path for path, rights in granted.items() if rights & Right.IOCTL_DEV} == {"/dev/tty", "/dev/pts"}


def test_what_may_run_what_it_writes_may_execute_there() -> None:
    writable = plan(binds=(Bind("/srv/work", "/work", True, True),), noexec=False)
    granted = dict(landlock.grants(writable))
    assert {path for path, rights in granted.items() if rights & Right.EXECUTE} == {"/work", "/tmp", "/var/tmp", "/home/agent"}


def test_every_abi_says_what_it_adds() -> None:
    assert list(ADDS) == list(range(1, NEWEST + 1))
    assert ADDS[1][0] == landlock.FLOOR
    assert [landlock.handled(version).bit_count() for version in range(1, NEWEST + 1)] == [13, 14, 15, 15, 16, 16, 16]
