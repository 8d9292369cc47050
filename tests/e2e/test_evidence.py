"""What the kernel refuses by itself is on record: calls, files and programs, each once for as often as it was tried."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from framework.machine import Machine, Record
from framework.policy import whole

pytestmark = pytest.mark.client("/usr/bin/python3")

FLOOD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def refused(number, *words):
    assert libc.syscall(ctypes.c_long(number), *words) == -1
for _ in range(int(sys.argv[1])):
    refused(165, None, b"/tmp", None, 0, None)  # mount
for number in range(int(sys.argv[2])):
    refused(257, -100, b"/usr/no-%d" % number, os.O_WRONLY | os.O_CREAT, 0o600)  # openat
print("done")
"""


def _of(records: list[Record], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(record["detail"].get(field) for field in fields) for record in records]


def _times(records: list[Record]) -> int:
    return sum(record["detail"]["times"] for record in records)


def test_a_refused_system_call_is_on_record_with_its_name_and_error(machine: Machine, inside: dict[str, str]) -> None:
    names = ["mount", "ptrace", "bpf", "packet", "tiocsti", "getpid", "clone3"]
    result = machine.run(["/usr/bin/python3", "calls.py", *names], policy=whole(allow=["python3"]), files=inside)
    answered = {"packet": errno.EAFNOSUPPORT, "getpid": 0, "clone3": errno.ENOSYS}
    assert json.loads(result.stdout) == dict.fromkeys(("mount", "ptrace", "bpf", "tiocsti"), errno.EPERM) | answered, result
    records = result.select(action="syscall", decision="deny", effect="refuse", reason="syscall_refused")
    assert _of(records, "call", "errno", "times") == [
        ("mount", "EPERM", 1),
        ("ptrace", "EPERM", 1),
        ("bpf", "EPERM", 1),
        ("socket", "EAFNOSUPPORT", 1),
        ("ioctl", "EPERM", 1),
    ], result
    assert {record["binary"]["name"] for record in records} == {"python3"}, result
    assert all(record["pid"] and record["enforced"] for record in records), result


def test_a_refused_file_is_on_record_and_one_that_is_not_there_is_none(machine: Machine) -> None:
    script = (
        "echo x > /usr/local/planted; mkdir /etc/own; cat /etc/shadow; mkdir made; echo x > made/x; chmod 0 made/x; cat made/x; echo end"
    )
    result = machine.run(["sh", "-c", script], policy=whole(allow=["sh", "coreutils"]))
    assert result.stdout == "end\n", result
    records = result.select(action="file", decision="deny", effect="refuse", reason="file_refused")
    assert _of(records, "call", "errno", "path", "times") == [
        ("openat", "EROFS", "/usr/local/planted", 1),
        ("mkdir", "EROFS", "/etc/own", 1),
        ("openat", "EACCES", "made/x", 1),
    ], result
    assert [record["binary"]["name"] for record in records] == ["sh", "coreutils", "coreutils"], result
    assert not result.select(action="syscall"), result


def test_what_landlock_refuses_is_on_record(machine: Machine) -> None:
    """A ruleset of one's own, in the sandbox's place: nothing but Landlock stands in the way of this write."""
    code = """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        open("before", "w").close()
        ruleset = libc.syscall(444, ctypes.byref(ctypes.c_uint64(2)), ctypes.c_size_t(8), 0)  # LANDLOCK_ACCESS_FS_WRITE_FILE
        assert ruleset >= 0 and libc.syscall(446, ruleset, 0) == 0
        open("before").close()
        try:
            open("before", "w")
        except PermissionError:
            print("refused")
    """
    lines = "\n".join(line[8:] for line in code.splitlines())
    result = machine.run(["/usr/bin/python3", "-S", "own.py"], policy=whole(allow=["python3"]), files={"own.py": lines})
    assert result.stdout == "refused\n", result
    [record] = result.select(action="file", reason="file_refused")
    assert _of([record], "call", "errno", "path") == [("openat", "EACCES", "before")], result


def test_what_a_noexec_mount_refuses_is_on_record(machine: Machine) -> None:
    result = machine.run(["sh", "-c", "cp /usr/bin/true ./copy; ./copy; echo $?"], policy=whole(allow=["sh", "coreutils"]))
    assert result.stdout == "126\n", result
    [record] = result.select(action="exec", decision="deny", level="exec", effect="refuse", reason="exec_refused")
    assert (record["binary"]["name"], record["binary"]["path"], record["detail"]["errno"]) == ("copy", "./copy", "EACCES"), result
    assert record["ancestry"][0].rpartition("/")[2] in ("dash", "sh"), result


def test_observing_lifts_none_of_it(machine: Machine, inside: dict[str, str]) -> None:
    result = machine.run(["/usr/bin/python3", "calls.py", "mount"], policy=whole(allow=["python3"]), files=inside, options=["--observe"])
    assert json.loads(result.stdout) == {"mount": errno.EPERM}, result
    [record] = result.select(action="syscall")
    assert (record["effect"], record["enforced"]) == ("refuse", True), result


def test_a_flood_of_refusals_is_counted_to_the_last_one_in_few_records(machine: Machine) -> None:
    calls, paths = 100_000, 5_000
    result = machine.run(
        ["/usr/bin/python3", "-S", "flood.py", str(calls), str(paths)], policy=whole(allow=["python3"]), files={"flood.py": FLOOD}
    )
    assert result.stdout == "done\n", result
    mounts, opens = result.select(action="syscall"), result.select(action="file")
    assert _times(mounts) == calls, result
    assert _times(opens) == paths, result
    assert len(mounts) < calls / 1000, len(mounts)
    apart = [record for record in opens if "path" in record["detail"]]
    assert 0 < len(apart) < len(opens) < paths / 5, (len(apart), len(opens))
    assert len({record["detail"]["path"] for record in apart}) == len(apart)
    assert not result.select(reason="events_lost") and not result.select(reason="packet_dropped"), result
