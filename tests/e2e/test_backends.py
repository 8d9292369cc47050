"""Exec enforcement as a sandbox sees it, by whichever backend this kernel has: the same refusals with the same records.

What differs is what the caller sees of a refused exec, and that code from writable places leaves a record by LSM only. One run does it all,
and the tests look at it: these run under emulation too, where a run takes half a minute.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from framework.internet import ECHO, OTHER
from framework.machine import Machine, Record, Result
from framework.policy import http, whole
from stockade.kernel.backend import Backend, chosen

pytestmark = pytest.mark.client("curl", "/usr/bin/python3")

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/libz.so.1")
SCRIPT = f"""
say() {{ echo "$1=$?"; }}
curl -sS -o body https://{ECHO}/ok; say reached
curl -sS https://{OTHER}/; say elsewhere
/usr/bin/id; say id
LD_PRELOAD=x curl --version; say preload
cp {LIBRARY} lib.so
/usr/bin/python3 -c 'import ctypes; ctypes.CDLL("./lib.so")'; say load
/usr/bin/python3 later.py; say later
"""
# What was mapped for reading is made code later.
LATER = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_size_t
libc.mprotect.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
fd = os.open("lib.so", os.O_RDONLY)
at = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, fd, ctypes.c_long(0))
sys.exit(-libc.mprotect(at, 4096, mmap.PROT_READ | mmap.PROT_EXEC))
"""
KILLED, NOT_EXECUTABLE = "137", "126"


class Seen:
    """One run of SCRIPT: the exit status of each step as the shell saw it, and the records."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.status = dict(re.findall(r"^(\w+)=(\d+)$", result.stdout, re.M))
        (started,) = result.select(action="lifecycle", reason="started")
        self.backend = Backend(started["detail"]["exec_backend"])


def run(machine: Machine, *, writable: bool, options: tuple[str, ...] = ()) -> Seen:
    policy = whole(http("curl", ECHO), allow=["sh", "curl", "cp", "python3"], exec={"writable": writable})
    # under emulation, beside others, it takes minutes: 200 s were seen
    return Seen(machine.run(["sh", "-c", SCRIPT], policy=policy, files={"later.py": LATER}, options=options, timeout=180))


def mappings(seen: Seen) -> list[Record]:
    return [record for record in seen.result.select(action="file", decision="deny") if record["detail"]["call"] in ("mmap", "mprotect")]


@pytest.fixture(scope="module")
def seen(machine: Machine) -> Seen:
    return run(machine, writable=False)


@pytest.fixture(scope="module")
def writable(machine: Machine) -> Seen:
    return run(machine, writable=True)


def test_the_record_names_the_backend_that_this_kernel_has(seen: Seen) -> None:
    assert seen.backend is chosen(), seen.result


def test_what_is_listed_runs_and_reaches_what_it_may(seen: Seen) -> None:
    assert (seen.status["reached"], seen.status["elsewhere"]) == ("0", "6"), seen.result
    assert seen.result.select(action="exec", decision="allow", reason="exec_allowed", binary="curl"), seen.result
    assert seen.result.select(action="http", decision="allow", binary="curl", host=ECHO), seen.result
    assert seen.result.select(action="dns", decision="deny", binary="curl", host=OTHER), seen.result


def test_what_is_not_listed_does_not_run(seen: Seen) -> None:
    assert "uid=" not in seen.result.stdout, seen.result
    assert seen.status["id"] == (NOT_EXECUTABLE if seen.backend is Backend.LSM else KILLED), seen.result
    assert ("Operation not permitted" in seen.result.stderr) is (seen.backend is Backend.LSM), seen.result
    [record] = seen.result.select(action="exec", decision="deny", reason="exec_unlisted")
    assert (record["effect"], record["enforced"], record["binary"]["path"]) == ("refuse", True, "/usr/bin/id"), seen.result
    assert record["ancestry"], seen.result


def test_a_loader_variable_is_a_kill_on_both(seen: Seen) -> None:
    """The environment can be read when the image stands, and not before."""
    assert seen.status["preload"] == KILLED, seen.result
    assert seen.result.select(action="exec", decision="deny", reason="loader_variable", binary="curl"), seen.result


@pytest.mark.skipif(not LIBRARY.exists(), reason=f"no {LIBRARY} to copy")
def test_code_from_a_writable_place_is_not_loaded_now_or_later(seen: Seen, writable: Seen) -> None:
    assert seen.status["load"] != "0" != seen.status["later"], seen.result
    assert writable.status["load"] == "0" == writable.status["later"], writable.result
    assert mappings(writable) == [], writable.result
    told = {record["detail"]["call"]: record for record in mappings(seen)}
    assert len(mappings(seen)) == len(told) == 2, seen.result
    assert all(record["effect"] == "refuse" and record["binary"]["name"].startswith("python3") for record in told.values()), seen.result
    assert told["mprotect"]["reason"] == "file_refused", "by the noexec mount itself, before any hook"
    if seen.backend is Backend.LSM:
        assert told["mmap"]["reason"] == "mapping_writable" and told["mmap"]["detail"]["path"].endswith("/lib.so"), seen.result
    else:
        assert told["mmap"]["reason"] == "file_refused", seen.result


def test_an_observed_sandbox_runs_what_is_not_listed_and_says_so_once(machine: Machine) -> None:
    result = machine.run(["sh", "-c", "/usr/bin/id; exit 0"], policy=whole(allow=["sh"]), options=["--observe"])
    assert "uid=" in result.stdout, result
    [record] = result.select(action="exec", decision="deny")
    assert (record["effect"], record["enforced"]) == ("pass", False), result


def test_the_command_itself_may_be_what_is_refused(machine: Machine) -> None:
    result = machine.run(["/usr/bin/id"], policy=whole(allow=["sh"], exec={"deny": ["id"]}))
    assert result.status == 126 and "uid=" not in result.stdout, result
    assert "the policy does not let it run" in result.stderr, result
