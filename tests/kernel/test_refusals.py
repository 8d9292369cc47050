"""What bpf/refusal.c counts, call by call: whose, which, how often, and what it lets go."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.box import PYTHON, Actor, Box
from stockade.kernel import abi
from stockade.kernel.refusals import Refusal

CALLS = """
import ctypes, os, signal, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *words):
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *words) < 0 else 0
def many(times, number, *words):
    for _ in range(times):
        call(number, *words)
"""
Told = Callable[[], list[Refusal]]


@pytest.fixture
def told(box: Box) -> Told:
    """What this box was refused since the last call: everything, since its actor does nothing of itself."""

    def take() -> list[Refusal]:
        return [refusal for refusal in box.kernel.refusals.take(everything=True) if refusal.sandbox == box.number]

    return take


@pytest.fixture
def caller(box: Box, told: Told) -> Actor:
    """Somebody who may do little: no capability, another uid."""
    box.enrol(PYTHON)
    actor = box.actor()
    actor(CALLS)
    actor("os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)")
    told()
    return actor


def _brief(refusals: list[Refusal]) -> list[tuple[str, str, bytes, int]]:
    return [(refusal.call, errno.errorcode[refusal.error], refusal.path, refusal.times) for refusal in refusals]


def test_who_was_refused_what(caller: Actor, box: Box, told: Told, tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.touch(mode=0o600)
    tmp_path.chmod(0o711)
    assert caller("call(161, b'/')") == errno.EPERM  # chroot
    with pytest.raises(PermissionError):
        caller(f"open({str(shut)!r})")
    refusals = told()
    path = refusals[1].path
    assert _brief(refusals) == [("chroot", "EPERM", b"/", 1), ("openat", "EACCES", path, 1)]
    assert bytes(shut)[: len(path)] == path
    task = box.maps.task(caller.pid)
    assert task is not None
    assert {(each.pid, each.exec_id, each.identity, each.generation) for each in refusals} == {
        (caller.pid, task.exec_id, task.identity, box.generation)
    }
    assert told() == []


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("call(257, -100, b'/nowhere', 0, 0)", errno.ENOENT),
        ("call(269, -100, b'/root/x', 0)", errno.EACCES),  # faccessat: a question
        ("call(5000)", errno.ENOSYS),
        ("call(0, -1, 0, 0)", errno.EBADF),
    ],
)
def test_what_is_no_refusal_is_not_told(caller: Actor, told: Told, code: str, answer: int) -> None:
    if answer == errno.EACCES and Path("/root").stat().st_mode & 0o001:
        pytest.skip("/root is open to everybody here")
    assert caller(code) == answer
    assert told() == []


def test_whoever_is_not_in_the_cgroup_is_not_meant(caller: Actor, told: Told) -> None:
    done = subprocess.run(["chroot", "/", "true"], user=65534, group=65534, extra_groups=[], capture_output=True, text=True)
    assert "Operation not permitted" in done.stderr
    assert told() == []


def test_no_count_is_lost_between_two_readings(caller: Actor, box: Box) -> None:
    """Four threads count while turn after turn is read and deleted."""
    caller("workers = [threading.Thread(target=many, args=(20000, 161, b'/')) for _ in range(4)]; [each.start() for each in workers]; None")
    readings = [box.kernel.refusals.take() for _ in range(200)]
    caller("[each.join() for each in workers]; None")
    readings.append(box.kernel.refusals.take(everything=True))
    mine = [refusal for reading in readings for refusal in reading if refusal.sandbox == box.number]
    assert sum(refusal.times for refusal in mine) == 80_000
    assert {refusal.call for refusal in mine} == {"chroot"}
    assert len(mine) > 1  # it was read meanwhile


def test_beyond_some_all_are_counted_by_call_and_error(caller: Actor, told: Told) -> None:
    paths = 3 * abi.REFUSALS_APART
    caller(f"[call(161, b'/' * (number + 1)) for number in range({paths})]; many(5, 166, b'/', 0)")  # chroot, umount2
    refusals = told()
    together = [refusal for refusal in refusals if not refusal.path]
    assert [(each.call, each.times, each.exec_id) for each in together] == [("chroot", paths - abi.REFUSALS_APART, 0), ("umount2", 5, 0)]
    assert len(refusals) == abi.REFUSALS_APART + 2
    assert sum(refusal.times for refusal in refusals) == paths + 5


def test_returning_from_a_signal_handler_is_no_second_refusal(caller: Actor, told: Told) -> None:
    """rt_sigreturn answers with what the interrupted call had answered: EPERM, when the signal came at its end."""
    caller(
        """
        over = []
        def disturb(whom):
            while not over:
                signal.pthread_kill(whom, signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        other = threading.Thread(target=disturb, args=(threading.get_ident(),))
        other.start()
        many(20000, 161, b"/")
        over.append(1)
        other.join()
    """,
        timeout=300,  # under emulation
    )
    assert _brief(told()) == [("chroot", "EPERM", b"/", 20_000)]


def test_a_call_through_a_unix_socket_is_told_and_one_to_an_address_is_not(caller: Actor, told: Told, tmp_path: Path) -> None:
    """The others have a record of their own, from the program that refused them."""
    tmp_path.chmod(0o711)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        (tmp_path / "s").chmod(0o600)
        listener.listen()
        with pytest.raises(PermissionError):
            caller(f"socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r})")
    with pytest.raises(PermissionError):
        caller("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('255.255.255.255', 9))")  # EACCES without SO_BROADCAST
    assert _brief(told()) == [("connect", "EACCES", b"", 1)]
