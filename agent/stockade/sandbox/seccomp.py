"""System call filters, compiled by libseccomp. This first version refuses a list of calls; an allowlist will take its place.

Every refusal is EPERM, except clone3: ENOSYS, because its flags are behind a pointer that a filter cannot read, and libc falls back to
clone.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stockade.sandbox import libc
from stockade.types import StockadeError

_ALLOW = 0x7FFF0000
_NE, _LT, _LE, _EQ, _GE, _GT, _MASKED_EQ = range(1, 8)


def _errno(number: int) -> int:
    return 0x00050000 | number


@dataclass(frozen=True, slots=True)
class Argument:
    """Matches when (argument & mask) == value."""

    index: int
    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Refusal:
    call: str
    when: tuple[Argument, ...] = ()
    error: int = errno.EPERM


_NEW_NAMESPACES = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_SETID = (0o4000, 0o2000)
_AF_ALLOWED = (1, 2, 10, 16)  # UNIX, INET, INET6, NETLINK

_NEVER = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
    *("mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount", "mount_setattr"),
    *("unshare", "setns"),
    *("reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "swapon", "swapoff"),
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("keyctl", "add_key", "request_key", "open_by_handle_at", "name_to_handle_at"),
    *(
        "acct",
        "quotactl",
        "quotactl_fd",
        "nfsservctl",
        "lookup_dcookie",
        "syslog",
        "settimeofday",
        "clock_settime",
        "clock_adjtime",
        "adjtimex",
    ),
    *("iopl", "ioperm", "modify_ldt", "vm86", "vm86old", "fanotify_init"),
)

SANDBOX: tuple[Refusal, ...] = (
    *(Refusal(call) for call in _NEVER),
    Refusal("clone3", error=errno.ENOSYS),
    *(Refusal("clone", (Argument(0, flag, flag),)) for flag in _NEW_NAMESPACES),
    # the id-mapped workdir would let a file become set-uid to its owner on the host
    *(Refusal(call, (Argument(index, bit, bit),)) for call, index in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2)) for bit in _SETID),
    *(Refusal(call, (Argument(index, bit, bit),)) for call, index in (("creat", 1), ("mknod", 1), ("mknodat", 2)) for bit in _SETID),
    *(  # the mode counts only beside O_CREAT or O_TMPFILE: without them the register holds whatever it held
        Refusal(call, (Argument(index - 1, making, making), Argument(index, bit, bit)))
        for call, index in (("open", 2), ("openat", 3))
        for making in (os.O_CREAT, os.O_TMPFILE & ~os.O_DIRECTORY)
        for bit in _SETID
    ),
    Refusal("fchmodat2", error=errno.ENOSYS),
    Refusal("openat2", error=errno.ENOSYS),  # its mode is behind a pointer
    # a terminal shared with the host must not be typed into
    Refusal("ioctl", (Argument(1, 0xFFFFFFFF, 0x5412),)),  # TIOCSTI
    Refusal("ioctl", (Argument(1, 0xFFFFFFFF, 0x541C),)),  # TIOCLINUX
    # a listener over one's own children answers their calls: seccomp(SET_MODE_FILTER, FLAG_NEW_LISTENER)
    Refusal("seccomp", (Argument(0, 0xFFFFFFFF, 1), Argument(1, 8, 8))),
)

# A file without a name is on no noexec mount: a library in it could be loaded into any binary. Lifted by exec.writable.
ANONYMOUS: tuple[Refusal, ...] = (Refusal("memfd_create"), Refusal("memfd_secret"))

# What a proxy worker never does once it serves: it has everything open that it will need.
WORKER: tuple[Refusal, ...] = tuple(
    Refusal(call)
    for call in [*_NEVER, "open", "openat", "openat2", "creat", "execve", "execveat", "fork", "vfork", "kill", "tkill", "link", "linkat"]
)


def compile_filter(refusals: Iterable[Refusal], *, families: bool = False) -> bytes:
    """struct sock_filter[] for libc.apply_seccomp. Raises StockadeError when libseccomp is missing or refuses a rule.

    families: also refuse socket() beyond UNIX, INET, INET6 and NETLINK_ROUTE. A call this libseccomp does not know is refused by number
    only where it exists; one it cannot name is left out, which the allowlist will not have to do.
    """
    try:
        lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        raise StockadeError("libseccomp.so.2 is missing", hint="apt-get install libseccomp2", code="no_seccomp") from None
    lib.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(lib.seccomp_init(_ALLOW))

    class Comparison(ctypes.Structure):
        _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))

    def refuse(call: str, error: int, comparisons: list[Comparison]) -> None:
        number = lib.seccomp_syscall_resolve_name(call.encode())
        if number == -1:
            return
        array = (Comparison * max(len(comparisons), 1))(*comparisons)
        result = lib.seccomp_rule_add_array(context, _errno(error), number, len(comparisons), array)
        if result < 0 and -result != errno.EDOM:  # EDOM: no such call on this architecture
            raise StockadeError(f"libseccomp refused the rule on {call}: {os.strerror(-result)}", code="seccomp")

    for refusal in refusals:
        refuse(refusal.call, refusal.error, [Comparison(a.index, _MASKED_EQ, a.mask, a.value) for a in refusal.when])
    if families:
        for family in range(max(_AF_ALLOWED) + 1):
            if family not in _AF_ALLOWED:
                refuse("socket", errno.EAFNOSUPPORT, [Comparison(0, _EQ, family, 0)])
        refuse("socket", errno.EAFNOSUPPORT, [Comparison(0, _GT, max(_AF_ALLOWED), 0)])
        refuse("socket", errno.EPROTONOSUPPORT, [Comparison(0, _EQ, 16, 0), Comparison(2, _NE, 0, 0)])
    with open(os.memfd_create("seccomp"), "w+b") as file:  # noqa: PTH123 (a descriptor)
        result = lib.seccomp_export_bpf(context, file.fileno())
        lib.seccomp_release(context)
        if result < 0:
            raise StockadeError(f"libseccomp could not compile the filter: {os.strerror(-result)}", code="seccomp")
        file.seek(0)
        return file.read()


def confinement(refusals: Iterable[Refusal]) -> Callable[[], None]:
    """A callable that filters the calling process; compiled now, so that nothing is opened when it is called."""
    program = compile_filter(refusals)

    def confine() -> None:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        libc.apply_seccomp(program)

    return confine
