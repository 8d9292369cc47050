"""Who the command is inside, and that it is the sandbox's own unprivileged user outside, whatever it is called."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from framework.machine import Machine
from framework.policy import whole
from stockade.service.settings import Settings

pytestmark = pytest.mark.client("/usr/bin/python3")

WHO = """
import errno, grp, json, os, pathlib, pwd, socket

def tried(attempt, *arguments):
    try:
        attempt(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

pathlib.Path("made").write_text("x")
status = dict(line.split(":\\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if ":\\t" in line)
print(json.dumps({
    "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
    "name": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name,
    "home": os.path.expanduser("~"), "variables": [os.environ[name] for name in ("USER", "LOGNAME", "HOME")],
    "owner": os.stat("given").st_uid, "made": os.stat("made").st_uid, "system": os.stat("/usr").st_uid,
    "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"], "writable_home": tried(pathlib.Path(os.path.expanduser("~/x")).write_text, "x"),
    "tries": {
        "setgroups": tried(os.setgroups, [0]), "setuid": tried(os.setuid, 12345), "chown": tried(os.chown, "made", 1, 1),
        "chroot": tried(os.chroot, "/tmp"), "mknod": tried(os.mknod, "/tmp/null", 0o020666, os.makedev(1, 3)),
        "hostname": tried(socket.sethostname, "other"), "shadow": tried(os.stat, "/etc/shadow"),
        "etc": tried(os.open, "/etc/made", os.O_CREAT), "mem": tried(os.open, "/proc/1/mem", os.O_RDONLY),
        "priority": tried(os.setpriority, os.PRIO_PROCESS, 0, -5), "init": tried(os.kill, 1, 0),
    },
}))
"""


def who(machine: Machine, user: str | int | None, room: Path | None = None) -> tuple[dict[str, Any], Path]:
    room = room or machine.room()
    (room / "work/who.py").write_text(WHO)
    (room / "work/given").write_text("x")
    process = {} if user is None else {"process": {"user": user}}
    result = machine.run(["python3", "who.py"], policy=whole(allow=["python3"], **process), room=room)
    assert result.status == 0, result
    return json.loads(result.stdout), room


@pytest.mark.parametrize(
    ("user", "identity", "name", "home"),
    [
        (None, None, "agent", "/home/agent"),
        ("builder", None, "builder", "/home/builder"),
        ("root", 0, "root", "/root"),
        (0, 0, "root", "/root"),
        (1000, 1000, "agent", "/home/agent"),
    ],
)
def test_a_name_or_a_number_inside_and_no_right_outside(
    machine: Machine, user: str | int | None, identity: int | None, name: str, home: str
) -> None:
    found, room = who(machine, user)
    number = found["uid"][0]
    if identity is None:
        assert number > Settings().first_sandbox_user
    else:
        assert number == identity
    assert found["uid"] == found["gid"] == [number] * 3
    assert (found["name"], found["group"], found["home"], found["variables"]) == (name, name, home, [name, name, home])
    assert found["owner"] == found["made"] == number, "the workdir is its own"
    assert found["system"] == (0 if identity is None else 65534), "what is root's on the machine is not its own"
    assert set(found["capabilities"]) == {"0" * 16} and found["no_new_privs"] == "1"
    assert found["writable_home"] == "done"
    tries = dict(found["tries"])
    assert tries.pop("shadow") == "ENOENT"
    assert tries.pop("etc") in ("EROFS", "EACCES")
    assert tries.pop("init") == "done"  # a signal it may send: PID 1 of a namespace takes only those it asks for
    assert set(tries.values()) <= {"EPERM", "EACCES", "EINVAL", "EOVERFLOW"}, tries
    for path in ("given", "made"):
        assert (room / "work" / path).stat().st_uid == (room / "work").stat().st_uid == os.getuid(), "on disk its owner has them"


def test_root_inside_is_the_sandboxs_user_to_the_machine(machine: Machine) -> None:
    """Seen from outside, and in the maps of its user namespace: one number, no more."""
    room = machine.room()
    script = "import time\nmaps = [open('/proc/self/' + name).read() for name in ('uid_map', 'setgroups')]\n"
    script += "print(*maps, file=open('map', 'w', 1))\ntime.sleep(60)\n"
    (room / "work/wait.py").write_text(script)
    policy = whole(allow=["python3"], process={"user": "root"})
    with machine.start(["python3", "wait.py"], policy=policy, room=room) as running:
        words = running.wait_for("deny", room / "work/map").split()
        assert (words[0], words[2:]) == ("0", ["1", "deny"])
        users = {
            (process / "status").read_text().split("Uid:\t")[1].split("\t")[0]
            for process in Path("/proc").glob("[0-9]*")
            if (process / "cmdline").read_bytes() == b"python3\0wait.py\0"
        }
        assert users == {words[1]} and int(words[1]) > Settings().first_sandbox_user


def test_nobody_is_an_error(machine: Machine) -> None:
    result = machine.run("true", policy=whole(allow=["true"], process={"user": "nobody"}))
    assert result.status == 125 and "[bad_user]" in result.stderr, result
