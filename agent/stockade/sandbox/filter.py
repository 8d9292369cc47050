"""Rules on system calls, compiled by libseccomp into the program that the kernel runs before each call.

What no rule allows is EPERM. In front of libseccomp's program stands one of ours that asks whose numbers these are: those of another
architecture, i386 or x32, end the process; those above what has been judged are absent (ENOSYS). Container engines do the same.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from stockade.sandbox.conditions import Argument
from stockade.sandbox.syscalls import NEWEST_JUDGED
from stockade.types import StockadeError

_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_*, linux/seccomp.h
_MASKED_EQ = 7  # enum scmp_compare
_ATTRIBUTE_BAD_ARCH, _ATTRIBUTE_OPTIMIZE = 2, 8  # enum scmp_filter_attr
_BINARY_TREE = 2
_UNKNOWN_NAME = -1  # __NR_SCMP_ERROR; what this architecture lacks is below it

X32 = 0x40000000  # bit 30: the number is of the x32 ABI, under x86-64's own architecture
_SKIPPED = 0xFFFFFFFF  # a tracer outside lets a call be skipped

_LD, _JEQ, _JGE, _JGT, _RET = 0x20, 0x15, 0x35, 0x25, 0x06  # linux/bpf_common.h
_NUMBER_AT, _ARCH_AT = 0, 4  # struct seccomp_data


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a call whose arguments fit. error: None lets it through."""

    call: str
    when: tuple[Argument, ...] = ()
    error: int | None = None


class _Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def compile_filter(rules: Iterable[Rule]) -> bytes:
    """struct sock_filter[] for libc.apply_seccomp.

    Raises StockadeError when libseccomp is missing, refuses a rule, or does not know a name: what cannot be said is not left out.
    """
    lib = _library()
    context = ctypes.c_void_p(lib.seccomp_init(_ERRNO | errno.EPERM))
    try:
        lib.seccomp_attr_set(context, _ATTRIBUTE_BAD_ARCH, _KILL_PROCESS)
        lib.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE)  # before 2.5 there is none: the same answers, in more steps
        newer = sorted({number for rule in rules if (number := _add(lib, context, rule)) > NEWEST_JUDGED})
        return _whose_numbers(lib.seccomp_arch_native(), newer) + _exported(lib, context)
    finally:
        lib.seccomp_release(context)


def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        raise StockadeError("libseccomp.so.2 is missing", hint="apt-get install libseccomp2", code="no_seccomp") from None
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_arch_native.restype = ctypes.c_uint32
    return lib


def _add(lib: ctypes.CDLL, context: ctypes.c_void_p, rule: Rule) -> int:
    """Returns the call's number; below zero: not of this architecture."""
    number: int = lib.seccomp_syscall_resolve_name(rule.call.encode())
    if number == _UNKNOWN_NAME:
        raise StockadeError(
            f"libseccomp does not know the system call {rule.call}", hint="a newer libseccomp2, or a policy without it", code="seccomp"
        )
    comparisons = [_Comparison(part.index, _MASKED_EQ, part.mask, part.value) for part in rule.when]
    action = _ALLOW if rule.error is None else _ERRNO | rule.error
    array = (_Comparison * max(len(comparisons), 1))(*comparisons)
    result = lib.seccomp_rule_add_array(context, action, number, len(comparisons), array)
    if result < 0 and -result != errno.EDOM:  # EDOM: no such call on this architecture
        raise StockadeError(f"libseccomp refused the rule on {rule.call}: {os.strerror(-result)}", code="seccomp")
    return number


def _exported(lib: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    with open(os.memfd_create("seccomp"), "w+b") as file:  # noqa: PTH123 (a descriptor)
        result = lib.seccomp_export_bpf(context, file.fileno())
        if result < 0:
            raise StockadeError(f"libseccomp could not compile the filter: {os.strerror(-result)}", code="seccomp")
        file.seek(0)
        return file.read()


def _whose_numbers(architecture: int, newer: list[int]) -> bytes:
    """The part before libseccomp's. newer: numbers above NEWEST_JUDGED on which there are rules."""
    absent = 6 + len(newer)
    kill, libseccomp = absent + 1, absent + 2
    program = [  # code, where to when it holds, where to when it does not, operand
        (_LD, 1, 1, _ARCH_AT),
        (_JEQ, 2, kill, architecture),
        (_LD, 3, 3, _NUMBER_AT),
        (_JEQ, absent, 4, _SKIPPED),
        (_JGE, kill, 5, X32),
        (_JGT, 6, libseccomp, NEWEST_JUDGED),
        *((_JEQ, libseccomp, at, number) for at, number in enumerate(newer, 7)),
        (_RET, kill, kill, _ERRNO | errno.ENOSYS),
        (_RET, libseccomp, libseccomp, _KILL_PROCESS),
    ]
    return b"".join(
        struct.pack("<HBBI", code, holds - at, otherwise - at, operand) for at, (code, holds, otherwise, operand) in enumerate(program, 1)
    )
