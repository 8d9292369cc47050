"""How an exec is refused on this kernel: by BPF LSM before an image is built (EPERM), or at the tracepoint after (SIGKILL).

Chosen by trying. A kernel whose LSM list lacks `bpf` loads and attaches LSM programs like any other, and never calls them: one is attached
here and must be seen to refuse a call that only this process can have made.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import platform
import secrets
import struct
from enum import StrEnum

from stockade.kernel import syscall
from stockade.kernel.hooks import LSM, LSM_MAC, LSM_TAINT_HOOKS, TAINT_HOOK, TRACE_RAW_TP, Hook
from stockade.types import StockadeError

_SYS_MMAP = {"x86_64": 9, "aarch64": 222, "riscv64": 222}


class Backend(StrEnum):
    """Its value is what the `started` record and the docs call it."""

    LSM = "lsm"
    TRACEPOINT = "tracepoint"


def hook_id(name: str, attach_type: int = LSM_MAC) -> int:
    """The BTF id of an LSM hook or a typed tracepoint: what such a program is loaded for. Raises OSError when the kernel has none."""
    try:
        libbpf = ctypes.CDLL("libbpf.so.1")
    except OSError:
        raise StockadeError("libbpf.so.1 is missing", hint="apt-get install libbpf1", code="no_libbpf") from None
    identifier: int = libbpf.libbpf_find_vmlinux_btf_id(name.encode(), attach_type)
    if identifier <= 0:
        raise OSError(errno.ENOENT, f"the kernel's BTF has no {'bpf_lsm_' if attach_type == LSM_MAC else 'tracepoint '}{name}")
    return identifier


def try_lsm() -> None:
    """Have the kernel call an LSM program. Raises OSError that says why it does not.

    The program refuses mmap(2) with flags that nobody else uses: a random number in the upper half, which the kernel hands to its hooks
    and then ignores (mm/mmap.c, `unsigned long flags`).
    """
    flags = secrets.randbits(31) << 32 | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    program = syscall.prog_load("probe", LSM, LSM_MAC, _refuse_flags(flags), attach_btf_id=hook_id("mmap_file"))
    try:
        link = syscall.link_lsm(program)
    finally:
        os.close(program)
    try:
        if not _refused(flags):
            raise OSError(errno.EOPNOTSUPP, "LSM programs attach and are not called: the kernel was booted without lsm=...,bpf")
    finally:
        os.close(link)


@functools.cache
def chosen() -> Backend:
    """LSM where it works. Raises nothing: what cannot be had leaves the tracepoint, which every supported kernel has."""
    with contextlib.suppress(OSError, StockadeError):
        try_lsm()
        return Backend.LSM
    return Backend.TRACEPOINT


def demand_senders() -> None:
    """Raises OSError when the kernel does not say who sends on a socket: neither by sock_send_length (6.3) nor to an LSM program."""
    try:
        hook_id(TAINT_HOOK.where.removeprefix("typed:"), TRACE_RAW_TP)
    except OSError:
        if chosen() is not Backend.LSM:
            raise


@functools.cache
def sender_hooks(refuse_by: Backend) -> tuple[Hook, ...]:
    """The programs that say who sends: by the tracepoint, else by LSM where that refuses execs too, else none."""
    with contextlib.suppress(OSError):
        hook_id(TAINT_HOOK.where.removeprefix("typed:"), TRACE_RAW_TP)
        return (TAINT_HOOK,)
    return LSM_TAINT_HOOKS if refuse_by is Backend.LSM else ()


def tells_senders() -> bool:
    """Whether somebody says it."""
    return bool(sender_hooks(chosen()))


def _refuse_flags(flags: int) -> bytes:
    """return args[3] == flags ? -EPERM : 0"""
    low, high = struct.unpack("<ii", struct.pack("<Q", flags))
    return b"".join(
        struct.pack("<BBhi", *instruction)
        for instruction in (
            (0x79, 0x12, 24, 0),  # r2 = args[3]
            (0x18, 0x03, 0, low),  # r3 = flags
            (0, 0, 0, high),
            (0xB7, 0x00, 0, 0),  # r0 = 0
            (0x5D, 0x32, 1, 0),  # if r2 != r3 skip one
            (0xB7, 0x00, 0, -errno.EPERM),
            (0x95, 0, 0, 0),
        )
    )


def _refused(flags: int) -> bool:
    number = _SYS_MMAP.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of mmap(2) on {platform.machine()} is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    call = libc.syscall
    call.restype = ctypes.c_long
    call.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_ulong, ctypes.c_long, ctypes.c_long]
    found = call(number, None, mmap.PAGESIZE, 0, flags, -1, 0)
    if found == -1:
        return ctypes.get_errno() == errno.EPERM
    libc.munmap(ctypes.c_void_p(found), ctypes.c_size_t(mmap.PAGESIZE))
    return False
