"""The compiled program, run here instruction by instruction, against the rules it was compiled from: every number, and arguments at each
edge of each condition.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.policy.model import Seccomp
from stockade.sandbox import seccomp
from stockade.sandbox.conditions import CONDITIONS
from stockade.sandbox.filter import Rule, compile_filter
from stockade.sandbox.syscalls import ABSENT, NEWEST_JUDGED

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls as on x86-64")

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS

LIB = ctypes.CDLL("libseccomp.so.2")
SANDBOX = seccomp.sandbox()
PROGRAMS = {"sandbox": (SANDBOX, compile_filter(SANDBOX)), "worker": (seccomp.WORKER, compile_filter(seccomp.WORKER))}


def number_of(call: str) -> int:
    return int(LIB.seccomp_syscall_resolve_name(call.encode()))


def answer(program: bytes, number: int, arguments: Iterable[int] = (), arch: int = X86_64) -> int:
    """What the kernel's interpreter returns (Documentation/networking/filter.rst; the instructions that libseccomp uses)."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(a & (1 << 64) - 1 for a in (*arguments, 0, 0, 0, 0, 0, 0)[:6]))
    at = accumulator = 0
    while True:
        code, true, false, operand = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x54:
                accumulator &= operand
            case 0x05:
                at += operand
            case 0x15:
                at += true if accumulator == operand else false
            case 0x25:
                at += true if accumulator > operand else false
            case 0x35:
                at += true if accumulator >= operand else false
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(f"an instruction that this test does not know: {code:#x}")


def wanted(rules: Iterable[Rule], call: str, arguments: tuple[int, ...]) -> int:
    fitting = [rule for rule in rules if rule.call == call and all(arguments[part.index] & part.mask == part.value for part in rule.when)]
    answers = {ALLOW if rule.error is None else ERRNO | rule.error for rule in fitting}
    assert len(answers) <= 1, f"rules on {call} disagree: {answers}"
    return answers.pop() if answers else EPERM


@pytest.mark.parametrize("which", PROGRAMS)
def test_every_number_is_answered_as_the_rules_say(which: str) -> None:
    rules, program = PROGRAMS[which]
    calls = {number_of(rule.call): rule.call for rule in rules}
    for number in range(NEWEST_JUDGED + 1):
        expected = wanted(rules, calls[number], (0,) * 6) if number in calls else EPERM
        assert answer(program, number) == expected, (number, calls.get(number))


@pytest.mark.parametrize("which", PROGRAMS)
def test_what_nobody_judged_is_absent(which: str) -> None:
    for number in (*range(NEWEST_JUDGED + 1, NEWEST_JUDGED + 200), 1000, 0x3FFFFFFF, 0xFFFFFFFF):
        assert answer(PROGRAMS[which][1], number) == ENOSYS, number


@pytest.mark.parametrize("which", PROGRAMS)
def test_numbers_of_other_architectures_end_the_process(which: str) -> None:
    for number in (0, 1, 20, 59, 435, 500):
        assert answer(PROGRAMS[which][1], number, arch=I386) == KILL_PROCESS
        assert answer(PROGRAMS[which][1], number | 0x40000000) == KILL_PROCESS, "x32"
        assert answer(PROGRAMS[which][1], number, arch=0) == KILL_PROCESS


def test_calls_whose_arguments_are_in_memory_are_absent() -> None:
    for call, number in (("clone3", 435), ("openat2", 437), ("fchmodat2", 452)):
        assert call in ABSENT.calls
        assert answer(PROGRAMS["sandbox"][1], number) == ENOSYS


CONDITIONAL = sorted(CONDITIONS)
EDGES = sorted(
    {
        edge & (1 << 64) - 1
        for condition in CONDITIONS.values()
        for alternative in condition.alternatives
        for part in alternative
        for value in (part.value, part.value | ~part.mask)
        for edge in (value, value - 1, value + 1, value | 1 << 32, value ^ 1 << 31)
    }
    | {bit << 32 for bit in (1, 1 << 31)}
)


@settings(max_examples=3000, deadline=None)
@given(st.sampled_from(CONDITIONAL), st.tuples(*[st.sampled_from(EDGES) | st.integers(0, 0xFFFF) | st.integers(0, (1 << 64) - 1)] * 4))
def test_arguments_are_judged_as_the_rules_say(call: str, first: tuple[int, ...]) -> None:
    arguments = (*first, 0, 0)
    assert answer(PROGRAMS["sandbox"][1], number_of(call), arguments) == wanted(SANDBOX, call, arguments)


def test_every_command_of_a_terminal_but_four() -> None:
    program, ioctl = PROGRAMS["sandbox"][1], number_of("ioctl")
    refused = {command for command in range(1 << 16) if answer(program, ioctl, (0, command)) != ALLOW}
    assert refused == {0x5412, 0x541C, 0x541D, 0x5423}
    assert all(answer(program, ioctl, (0, command | high << 32)) == EPERM for command in refused for high in (1, 0xFFFFFFFF))


def test_every_family_kind_and_protocol() -> None:
    program, call = PROGRAMS["sandbox"][1], number_of("socket")
    passing = {
        (family, kind, protocol)
        for family in range(64)
        for kind in range(16)
        for protocol in (*range(64), 132, 136, 255, 262)
        if answer(program, call, (family, kind, protocol)) == ALLOW
    }
    internet = {(family, kind, protocol) for family in (2, 10) for kind, own in ((1, 6), (2, 17)) for protocol in (0, own)}
    assert {found for found in passing if found[0] != 1} == internet | {(16, 2, 0), (16, 3, 0)}
    assert {kind for family, kind, _ in passing if family == 1} == {1, 2, 5}


def test_a_call_that_the_policy_adds_above_what_was_judged_reaches_its_rule() -> None:
    newer = next((call for call in ("cachestat", "futex_wake", "mseal") if number_of(call) > NEWEST_JUDGED), None)
    if newer is None:
        pytest.skip("this libseccomp names no call above the newest that was judged")
    program = compile_filter(seccomp.sandbox(Seccomp(allow=(newer,))))
    assert answer(program, number_of(newer)) == ALLOW
    assert answer(program, number_of(newer) + 1) == ENOSYS
    assert answer(program, number_of("read")) == ALLOW


def test_what_the_policy_changes_is_in_the_program() -> None:
    program = compile_filter(seccomp.sandbox(Seccomp(allow=("io_setup", "mount"), deny=("socketpair",)), executable=True))
    answers = {call: answer(program, number_of(call)) for call in ("io_setup", "mount", "socketpair", "memfd_create", "memfd_secret")}
    assert answers == {"io_setup": ALLOW, "mount": EPERM, "socketpair": EPERM, "memfd_create": ALLOW, "memfd_secret": EPERM}
