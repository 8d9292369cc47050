"""What holds when something is missing: a full map, a full ring, a dead agent; and beside whatever others attached."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.box import KILLED, NETWORK, PYTHON, RUNS, Box, Ear, wait_for
from stockade.kernel import syscall
from stockade.kernel.abi import EventType, Network, SandboxFlag, Verdict, Why
from stockade.kernel.hooks import HOOKS
from stockade.kernel.load import Kernel
from stockade.types import StockadeError

RETURN = {value: bytes([0xB7, 0, 0, 0, value, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]) for value in (0, 1)}
SOCK_ADDR, CONNECT4 = 18, 10
LISTEN = "server = socket.create_server(('127.0.0.1', 0)); port = server.getsockname()[1]"


# beside others


def attached(cgroup: Path) -> set[str]:
    shown = subprocess.run(["bpftool", "cgroup", "show", str(cgroup), "-j"], capture_output=True, check=True, text=True).stdout
    return {program["name"] for program in json.loads(shown or "[]")}


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_another_program_beside_ours_runs_and_so_does_ours(box: Box, first: str) -> None:
    """Two multi programs on one hook: both must say yes."""
    box.enrol(PYTHON)
    inside = box.actor()
    inside(LISTEN)

    def attach(value: int) -> int:
        program = syscall.prog_load("theirs", SOCK_ADDR, CONNECT4, RETURN[value])
        directory = os.open(box.cgroup.path, os.O_RDONLY)
        try:
            return syscall.link_cgroup(program, directory, CONNECT4)
        finally:
            os.close(program)
            os.close(directory)

    for value in (1, 0):
        if first == "ours":
            box.govern() if value else None
            link = attach(value)
        else:
            link = attach(value)
            box.govern() if value else None
        try:
            assert {"connect4", "theirs"} <= attached(box.cgroup.path)
            with pytest.raises(PermissionError):  # ours refuses this one
                inside("socket.create_connection(('198.18.0.1', 15001))")
            if value:
                inside("socket.create_connection(('127.0.0.1', port)).close()")
            else:
                with pytest.raises(PermissionError):
                    inside("socket.create_connection(('127.0.0.1', port))")
        finally:
            os.close(link)
    assert [e.why for e in box.heard(EventType.CONNECT) if e.verdict is Verdict.DENY] == [Why.AGENT_ADDRESS] * 2


def test_govern_attaches_every_program_of_the_sandbox(box: Box) -> None:
    box.govern()
    assert {hook.program for hook in HOOKS if hook.where == "sandbox"} == attached(box.cgroup.path)


# without the agent


def test_pinned_links_hold_without_the_process_that_made_them(pins: Path, cgroups: Path, bench: Path) -> None:
    """close(unpin=False) leaves the kernel in the state of kill -9: every descriptor gone, every pin there."""
    touch = Path(shutil.copy("/usr/bin/touch", bench / "touch"))
    kernel = Kernel(Network(), pins / "orphan")
    ear = Ear(kernel)
    kernel.attach_tracepoints()
    with Box(kernel, ear, cgroups) as box:
        python = box.enrol(PYTHON, RUNS | NETWORK)
        box.maps.refuse_variable(box.number, "LD_*")
        box.govern()
        inside = box.actor()
        inside(LISTEN)
        ear.ring.close()
        kernel.close(unpin=False)
        assert python and (pins / "orphan").is_dir()

        def run(*argv: str, **env: str) -> int:
            try:
                return subprocess.run(argv, env=env, preexec_fn=box._enter(None), capture_output=True).returncode
            except PermissionError as refused:
                return refused.errno or 0

        assert run(str(touch), str(bench / "evidence")) == box.refusal and not (bench / "evidence").exists()
        assert run(PYTHON, "-ISc", "", LD_PRELOAD="") == KILLED  # the second step, by a tail call
        with pytest.raises(PermissionError):
            inside("socket.create_connection(('198.18.1.0', 443))")
        inside("socket.create_connection(('127.0.0.1', port)).close()")  # the tag is still known
        shutil.rmtree(pins / "orphan")
        wait_for(lambda: run(str(touch), str(bench / "evidence")) == 0, "the links to be freed after their pins")


def test_pins_of_another_agent_are_not_taken_over(kernel: Kernel) -> None:
    with pytest.raises(StockadeError, match="the kernel refused"):
        Kernel(kernel.network, kernel.pins)
    assert kernel.pins.is_dir() and any(kernel.pins.iterdir()), "a failed start must not take the living one's pins away"


# full


def test_no_room_for_a_tag_kills_the_new_image_and_leaves_a_fork_untagged(tight: Callable[..., Box]) -> None:
    box = tight(tasks=2)
    box.enrol(PYTHON)
    box.govern()
    first, second = box.actor(), box.actor()
    first("1"), second("1")
    ended = box.run(PYTHON, "-ISc", "")
    assert ended.status == KILLED
    assert ended.events[-1].verdict is Verdict.DENY and ended.events[-1].why is Why.MAP_FULL
    assert box.maps.failures()["task_tag"] == 1
    box.heard()
    reached = first("""
        server = socket.create_server(("127.0.0.1", 0))
        pid = os.fork()
        if pid == 0:
            try:
                socket.create_connection(server.getsockname())
            except OSError as error:
                os._exit(error.errno)
            os._exit(0)
        os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """)
    assert reached == errno.EPERM
    assert [(e.type, e.verdict, e.why) for e in box.heard()] == [(EventType.CONNECT, Verdict.DENY, Why.UNTAGGED)]
    assert box.maps.failures()["task_tag"] == 2
    second.close()
    assert box.run(PYTHON, "-ISc", "").said == [(Verdict.LOCAL, Why.POLICY)], "room again"


def test_the_agent_hears_of_a_full_verdict_map_as_it_writes(tight: Callable[..., Box]) -> None:
    box = tight(verdicts=1)
    box.maps.set_verdict(box.number, 1, 1, 256, 443, Verdict.INSPECT)
    with pytest.raises(OSError) as raised:
        box.maps.set_verdict(box.number, 1, 1, 257, 443, Verdict.INSPECT)
    assert raised.value.errno in (errno.E2BIG, errno.ENOSPC)
    box.enrol(PYTHON, identity=1)
    box.govern()
    inside = box.actor()
    with pytest.raises(PermissionError):
        inside("socket.create_connection(('198.18.1.1', 443))")
    (event,) = box.heard(EventType.CONNECT)
    assert (event.verdict, event.why, event.name) == (Verdict.DENY, Why.POLICY, 257)


def test_what_cannot_be_recorded_does_not_happen(tight: Callable[..., Box]) -> None:
    """A ring of one page, and nobody reads it: connects that policy allows are refused, a new image is killed, each loss is counted."""
    box = tight(events=4096)
    box.enrol(PYTHON)
    box.enrol("/usr/bin/true")
    box.govern()
    inside = box.actor()
    inside(LISTEN)
    outcomes = inside("""
        def dial():
            try:
                socket.create_connection(server.getsockname()).close()
                return 0
            except OSError as error:
                return error.errno
        [dial() for _ in range(60)]
    """)
    through = outcomes.count(0)
    assert 20 < through < 60 and outcomes == [0] * through + [errno.EPERM] * (60 - through)
    assert box.maps.failures()["event"] == 60 - through
    died = inside("os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn('/usr/bin/true', ['true'], {}), 0)[1])")
    assert died == KILLED and box.maps.failures()["event"] == 61 - through
    assert len(box.heard(EventType.CONNECT)) == through
    assert inside("dial()") == 0 and box.run("/usr/bin/true").status == 0, "room again once the ring was read"


def test_under_observe_too(tight: Callable[..., Box]) -> None:
    """Observe lets everything run, and has it on record."""
    box = tight(events=4096)
    box.switch(1, SandboxFlag.OBSERVE)
    statuses = [subprocess.run(["/usr/bin/true"], preexec_fn=box._enter(None)).returncode for _ in range(60)]
    told = len(box.heard())
    assert 5 < told < 60 and statuses == [0] * told + [KILLED] * (60 - told)
