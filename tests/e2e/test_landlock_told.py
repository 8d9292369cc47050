"""Where the machine's audit is on, a refusal of Landlock's says so, and with it which right was missing. No other refusal does."""

from __future__ import annotations

import contextlib
import errno
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import kernel_audit
from framework.daemon import PYTHON, SETTINGS, Daemon, Obeying, name_of
from framework.machine import Machine, Record, wait_for
from framework.policy import whole
from stockade.sandbox import landlock

pytestmark = [
    pytest.mark.client("/usr/bin/python3"),
    pytest.mark.skipif(landlock.abi() < 7, reason="Landlock tells of refusals from ABI 7 on (Linux 6.15)"),
]

# /dev/null may be read and written, and takes no ioctl: the ruleset alone says so, no mode, mount or filter.
REFUSED = """
import fcntl, os, termios, time
def answer(name, work):
    try:
        work()
    except OSError as error:
        print(name, error.errno, flush=True)
null = os.open("/dev/null", os.O_RDWR)
for _ in range(3):
    answer("ioctl", lambda: fcntl.ioctl(null, termios.FIONREAD))
time.sleep(0.2)  # a thread of the kernel tells of it, and what it tells after the sandbox's last record is on none
"""
ELSE = """
import os
def answer(name, work):
    try:
        work()
    except OSError as error:
        print(name, error.errno, flush=True)
open("kept", "w").close()
os.chmod("kept", 0)
answer("mode", lambda: open("kept"))
answer("mount", lambda: os.mkdir("/usr/made"))
answer("filter", lambda: os.chroot("/"))
answer("hidden", lambda: open("/root/.ssh/id_ed25519"))
"""
OWN = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
open("before it", "w").close()
ruleset = libc.syscall(444, ctypes.byref(ctypes.c_uint64(2)), ctypes.c_size_t(8), 0)  # LANDLOCK_ACCESS_FS_WRITE_FILE
assert ruleset >= 0 and libc.syscall(446, ruleset, 0) == 0
try:
    open("before it", "w")
except OSError as error:
    print(error.errno)
"""


WAIT = """
import time
with open("ready", "w") as ready:
    ready.write("ready")
while not os.path.exists("go"):
    time.sleep(0.02)
"""


@pytest.fixture
def switch() -> Iterator[int]:
    """The machine's, which no other run of these tests touches meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            before = stack.enter_context(kernel_audit.alone())
        except OSError as error:
            pytest.skip(f"the machine's audit cannot be asked: {error.strerror}")
        yield before


@pytest.fixture
def audit(switch: int) -> Iterator[None]:
    with kernel_audit.switched_on():
        yield


@pytest.fixture
def off(switch: int) -> None:
    if switch != kernel_audit.OFF:
        pytest.skip("the machine's audit is on")


def run(machine: Machine, script: str, **more: Any) -> Any:
    return machine.run(["/usr/bin/python3", "-S", "try.py"], policy=whole(allow=["python3"]), files={"try.py": script}, **more)


def told(records: list[Record]) -> list[dict[str, Any]]:
    return [record["detail"] for record in records]


def test_a_refusal_of_landlocks_names_the_right_that_was_missing(machine: Machine, audit: None) -> None:
    result = run(machine, REFUSED)
    assert result.stdout.splitlines() == [f"ioctl {errno.EACCES}"] * 3, result
    [record] = result.select(reason="landlock_refused")
    assert record["detail"] == {"blockers": ["fs.ioctl_dev"], "path": "/dev/null", "at_least": 3, "ruleset": "sandbox"}
    assert [record[name] for name in ("action", "decision", "effect", "level", "enforced")] == ["file", "deny", "refuse", "static", True]
    [counted] = result.select(reason="syscall_refused")
    assert counted["detail"] == {"call": "ioctl", "errno": "EACCES", "times": 3}, "the exact count is what it was"


def test_what_a_mode_a_mount_or_the_filter_refuses_is_not_landlocks(machine: Machine, audit: None) -> None:
    result = run(machine, ELSE + REFUSED)
    numbers = {"mode": errno.EACCES, "mount": errno.EROFS, "filter": errno.EPERM, "hidden": errno.ENOENT, "ioctl": errno.EACCES}
    assert dict(line.split() for line in result.stdout.splitlines()) == {name: str(number) for name, number in numbers.items()}, result
    assert {record["detail"].get("path") for record in result.select(reason="file_refused")} == {"kept", "/usr/made"}, result
    assert [detail["path"] for detail in told(result.select(reason="landlock_refused"))] == ["/dev/null"], (
        "it was listened to, and said this"
    )


def test_a_ruleset_of_a_programs_own_is_not_the_sandboxs(machine: Machine, audit: None) -> None:
    result = run(machine, OWN)
    assert result.stdout == f"{errno.EACCES}\n", result
    [detail] = told(result.select(reason="landlock_refused"))
    assert (detail["blockers"], detail["ruleset"], detail["at_least"]) == (["fs.write_file"], "program", 1)
    assert Path(detail["path"]).name == "before it", detail
    assert [each["path"] for each in told(result.select(reason="file_refused"))] == ["before it"], result


def test_an_audit_that_is_switched_on_later_is_heard_at_once(machine: Machine, off: None) -> None:
    room = machine.room({"try.py": REFUSED + WAIT + REFUSED})
    command = ["/usr/bin/python3", "-S", "try.py"]
    with machine.start(command, policy=whole(allow=["python3"]), room=room) as running:
        running.wait_for("ready", room / "work/ready")
        with kernel_audit.switched_on():
            (room / "work/go").touch()
            result = running.finish()
    assert result.stdout.splitlines() == [f"ioctl {errno.EACCES}"] * 6, result
    assert sum(detail["at_least"] for detail in told(result.select(reason="landlock_refused"))) == 3, result
    assert sum(detail["times"] for detail in told(result.select(reason="syscall_refused"))) == 6, result


def test_the_next_daemon_knows_whose_ruleset_it_is(
    serving: Daemon, inside: dict[str, str], audit: None, request: pytest.FixtureRequest
) -> None:
    """The kernel has said so once, to the one that was killed."""
    obeying = Obeying(serving, inside | {"try.py": REFUSED}, whole(allow=["python3"]), name_of(request))
    try:
        assert obeying.do(f"run {PYTHON} -S try.py") == "0"
        wait_for(lambda: serving.records(reason="landlock_refused"), "what the first daemon was told")
        locks = [path for path in (SETTINGS.run / "slots").iterdir() if path.suffix == ""]
        wait_for(lambda: any("landlock domain" in path.read_text() for path in locks), "what is kept of it")
        before = len(serving.records(reason="landlock_refused"))
        serving.end(signal.SIGKILL)
        serving.start()
        assert obeying.do(f"run {PYTHON} -S try.py") == "0"
        found = wait_for(lambda: serving.records(reason="landlock_refused")[before:], "what the second one was told")
        assert {detail["ruleset"] for detail in told(found)} == {"sandbox"}
    finally:
        obeying.exit(0)


def test_a_daemon_with_no_more_than_its_units_capabilities_tells_whose_it_was(
    serving: Daemon, audit: None, request: pytest.FixtureRequest
) -> None:
    scripts = {name_of(request, 1): REFUSED, name_of(request, 2): ELSE + "import time; time.sleep(0.2)"}
    for name, script in scripts.items():
        done = serving.run([PYTHON, "-S", "try.py"], whole(allow=["python3"]), name, try_py=script)
        assert done.returncode == 0 and done.stdout, done

    def of(reason: str) -> list[tuple[str, str | None]]:
        found = [(record["sandbox"]["name"], record["detail"].get("ruleset")) for record in serving.records(reason=reason)]
        return [each for each in found if each[0] in scripts]

    assert of("landlock_refused") == [(name_of(request, 1), "sandbox")]
    assert set(of("file_refused")) == {(name_of(request, 2), None)}


def test_where_the_audit_is_off_nothing_is_told_and_everything_counted(machine: Machine, off: None) -> None:
    result = run(machine, REFUSED)
    assert not result.select(reason="landlock_refused"), result
    assert [record["detail"]["times"] for record in result.select(reason="syscall_refused")] == [3], result
