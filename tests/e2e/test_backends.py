"""Exec enforcement as a sandbox sees it, by whichever backend this kernel has: the same refusals with the same records.

What differs is what the caller sees of a refused exec, and that code from writable places leaves a record by LSM only.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.internet import ECHO, OTHER
from framework.machine import Machine, Result
from framework.policy import http, whole
from stockade.kernel.backend import Backend, chosen

pytestmark = pytest.mark.client("curl", "/usr/bin/python3")

KILLED = 128 + 9
LIBZ = Path("/usr/lib/x86_64-linux-gnu/libz.so.1")
LOAD = "import ctypes; ctypes.CDLL('./lib.so'); print('loaded')"
# A descriptor that was opened for reading is mapped first and made code later.
LATER = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_size_t
libc.mprotect.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
fd = os.open("lib.so", os.O_RDONLY)
at = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, fd, ctypes.c_long(0))
print(libc.mprotect(at, 4096, mmap.PROT_READ | mmap.PROT_EXEC), os.strerror(ctypes.get_errno()))
"""


def backend(result: Result) -> Backend:
    (started,) = result.select(action="lifecycle", reason="started")
    return Backend(started["detail"]["exec_backend"])


def test_the_record_names_the_backend_that_this_kernel_has(machine: Machine) -> None:
    result = machine.run(["sh", "-c", "exit 3"], policy=whole(allow=["sh"]))
    assert result.status == 3 and backend(result) is chosen(), result


def test_what_is_listed_runs_and_reaches_what_it_may(machine: Machine) -> None:
    policy = whole(http("curl", ECHO), allow=["sh", "curl"])
    result = machine.run(["sh", "-c", f"curl -sS -o body -w '%{{http_code}} ' https://{ECHO}/ok; curl -sS https://{OTHER}/"], policy=policy)
    assert result.stdout == "200 " and result.status == 6, result
    assert result.select(action="exec", decision="allow", reason="exec_allowed", binary="curl"), result
    assert result.select(action="http", decision="allow", binary="curl", host=ECHO), result
    assert result.select(action="dns", decision="deny", binary="curl", host=OTHER), result


def test_what_is_not_listed_does_not_run(machine: Machine) -> None:
    result = machine.run(["sh", "-c", "/usr/bin/id; echo status $?"], policy=whole(allow=["sh"]))
    assert "uid=" not in result.stdout, result
    if backend(result) is Backend.LSM:
        assert "status 126" in result.stdout and "Operation not permitted" in result.stderr, result
    else:
        assert f"status {KILLED}" in result.stdout, result
    [record] = result.select(action="exec", decision="deny")
    assert (record["reason"], record["effect"], record["enforced"]) == ("exec_unlisted", "refuse", True), result
    assert record["binary"]["path"] == "/usr/bin/id" and record["ancestry"], result


def test_the_command_itself_may_be_what_is_refused(machine: Machine) -> None:
    result = machine.run(["/usr/bin/id"], policy=whole(allow=["sh"], exec={"deny": ["id"]}))
    assert result.status == 126 and "uid=" not in result.stdout, result
    assert "the policy does not let it run" in result.stderr, result


def test_a_loader_variable_is_a_kill_on_both(machine: Machine) -> None:
    """The environment can be read when the image stands, and not before."""
    policy = whole(http("curl", ECHO), allow=["sh", "curl"])
    result = machine.run(["sh", "-c", "LD_PRELOAD=x curl --version; echo status $?"], policy=policy)
    assert f"status {KILLED}" in result.stdout, result
    assert result.select(action="exec", decision="deny", reason="loader_variable", binary="curl"), result


def test_an_observed_sandbox_runs_what_is_not_listed_and_says_so_once(machine: Machine) -> None:
    result = machine.run(["sh", "-c", "/usr/bin/id; exit 0"], policy=whole(allow=["sh"]), options=["--observe"])
    assert "uid=" in result.stdout, result
    [record] = result.select(action="exec", decision="deny")
    assert (record["effect"], record["enforced"]) == ("pass", False), result


@pytest.mark.skipif(not LIBZ.exists(), reason=f"no {LIBZ} to copy")
@pytest.mark.parametrize("writable", [False, True])
def test_code_from_a_writable_place_is_not_loaded(machine: Machine, writable: bool) -> None:
    policy = whole(allow=["sh", "cp", "python3"], exec={"writable": writable})
    result = machine.run(["sh", "-c", f"cp {LIBZ} ./lib.so; /usr/bin/python3 load.py"], policy=policy, files={"load.py": LOAD})
    assert ("loaded" in result.stdout) is writable, result
    records = result.select(action="file", decision="deny", reason="mapping_writable", effect="refuse")
    assert bool(records) is (backend(result) is Backend.LSM and not writable), result
    for record in records:
        assert record["detail"]["path"].endswith("/work/lib.so") and record["binary"]["name"].startswith("python3"), result


@pytest.mark.skipif(not LIBZ.exists(), reason=f"no {LIBZ} to copy")
@pytest.mark.parametrize("writable", [False, True])
def test_nor_does_what_was_read_become_code_later(machine: Machine, writable: bool) -> None:
    policy = whole(allow=["sh", "cp", "python3"], exec={"writable": writable})
    result = machine.run(["sh", "-c", f"cp {LIBZ} ./lib.so; /usr/bin/python3 later.py"], policy=policy, files={"later.py": LATER})
    assert result.stdout.startswith("0 " if writable else "-1 "), result
    assert bool(result.select(action="file", reason="mapping_writable")) is (backend(result) is Backend.LSM and not writable), result
