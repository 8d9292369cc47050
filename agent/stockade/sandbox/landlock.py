"""Landlock (landlock(7)): what the view shows, said once more in a form that no mount, namespace or capability changes.

The rules are drawn from the Plan alone: what it shows is readable, what it shows executable may be executed, what it shows writable may be
written, and everything else beneath the root may be listed at most. Owns the rights and the three system calls; knows no policy.

The TCP rights (ABI 4) are left to BPF on purpose: a rule there names a port and no address, so it could not tell a listener inside from the
world outside, and it would outlive a reload that opens another port.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from enum import IntFlag

from stockade.sandbox import libc
from stockade.sandbox.plan import NODES, Plan
from stockade.types import StockadeError

FLOOR = "5.13"
NEWEST = 7  # the newest ABI known here; a newer kernel is asked for what this one is

# What each ABI adds to the one before it, and the kernel it came with (Documentation/userspace-api/landlock.rst).
ADDS = {
    1: ("5.13", "reading, writing, making, removing and executing files"),
    2: ("5.19", "renaming and linking between directories, which ABI 1 refuses always"),
    3: ("6.2", "truncation"),
    4: ("6.7", "TCP ports, which BPF decides here"),
    5: ("6.10", "ioctl on devices"),
    6: ("6.12", "abstract unix sockets and signals beyond the sandbox"),
    7: ("6.15", "refusals in the kernel's audit log"),
}


class Right(IntFlag):
    """LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13  # ABI 2
    TRUNCATE = 1 << 14  # ABI 3
    IOCTL_DEV = 1 << 15  # ABI 5


READ = Right.READ_FILE | Right.READ_DIR
WRITE = (READ | Right.WRITE_FILE | Right.TRUNCATE | Right.REFER | Right.REMOVE_DIR | Right.REMOVE_FILE) | (
    Right.MAKE_DIR | Right.MAKE_REG | Right.MAKE_SOCK | Right.MAKE_FIFO | Right.MAKE_SYM
)  # never MAKE_CHAR or MAKE_BLOCK
NODE = Right.READ_FILE | Right.WRITE_FILE
TERMINAL = NODE | Right.IOCTL_DEV
_OF_A_FILE = Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV

_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1, 2
_LOG_NEW_EXEC_ON = 2  # LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON: what is exec'd from here on is what the log is about
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's Landlock ABI, at most NEWEST; 0 when it has none or was booted without it."""
    version: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(0, min(version, NEWEST))


def required(best_effort: frozenset[str]) -> int:
    """The ABI a sandbox is held to. Raises StockadeError without Landlock, unless the policy's best_effort names it: then 0."""
    found = abi()
    if not found and "landlock" not in best_effort:
        hint = f"Linux {FLOOR} or newer, booted with lsm=landlock,…; or `best_effort: [landlock]` in the policy, and less holds"
        raise StockadeError("this kernel has no Landlock", hint=hint, code="no_landlock")
    return found


def said(version: int) -> str:
    """For the record of the start."""
    return f"abi {version}" if version else "missing, best effort"


def handled(version: int) -> Right:
    """Every file system right that an ABI knows: what is handled and not granted is refused."""
    newest = Right.IOCTL_DEV if version >= 5 else Right.TRUNCATE if version >= 3 else Right.REFER if version >= 2 else Right.MAKE_SYM
    return Right((newest.value << 1) - 1)


def grants(plan: Plan) -> Iterator[tuple[str, Right]]:
    """Paths inside the sandbox, and what is granted beneath each. What a directory grants, everything in it has."""
    yield "/", Right.READ_DIR  # a name that the mounts show is no secret; a file beneath it may be
    for path in ("/etc", "/proc"):
        yield path, READ
    execute = Right(0) if plan.noexec else Right.EXECUTE
    for path in ("/tmp", "/var/tmp", plan.home):
        yield path, WRITE | execute
    yield "/dev/shm", WRITE
    for bind in plan.binds:
        yield bind.target, (WRITE if bind.writable else READ) | (Right.EXECUTE if bind.executable else Right(0))
    for name in NODES:
        yield f"/dev/{name}", TERMINAL if name == "tty" else NODE
    yield "/dev/pts", TERMINAL | Right.READ_DIR
    for node in plan.devices:
        yield node.path, TERMINAL


def rules(granted: Iterable[tuple[str, Right]], version: int) -> int:
    """A ruleset that grants so much, as a descriptor for restrict(). Needs the sandbox's root, and rights to walk it. Raises OSError."""
    ruleset = create(version)
    for path, rights in granted:
        descriptor = libc.open_path(path)
        try:
            allow(ruleset, descriptor, rights, version)
        finally:
            os.close(descriptor)
    for descriptor in range(3):  # /dev/stdin and its like lead to the host's node, which no path of the sandbox names
        if _is_device(descriptor):
            allow(ruleset, descriptor, TERMINAL if os.isatty(descriptor) else NODE, version)
    return ruleset


def create(version: int) -> int:
    """A ruleset that handles everything this ABI can, and grants nothing (struct landlock_ruleset_attr, whose size tells the ABI)."""
    scopes = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if version >= 6 else 0
    attributes = struct.pack("<QQQ", handled(version), 0, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    return _call(_CREATE_RULESET, "ruleset", attributes, ctypes.c_size_t(len(attributes)), 0)


def allow(ruleset: int, descriptor: int, rights: Right, version: int) -> None:
    """Grant rights on the file, or beneath the directory, that a descriptor is of (struct landlock_path_beneath_attr)."""
    possible = handled(version) if stat.S_ISDIR(os.fstat(descriptor).st_mode) else handled(version) & _OF_A_FILE
    _call(_ADD_RULE, "rule", ruleset, _PATH_BENEATH, struct.pack("<Qi", rights & possible, descriptor), 0)


def restrict(ruleset: int, version: int) -> None:
    """Hold this thread, and what it starts, to the ruleset, for ever. no_new_privs must be set."""
    _call(_RESTRICT_SELF, "restriction", ruleset, _LOG_NEW_EXEC_ON if version >= 7 else 0)


def _is_device(descriptor: int) -> bool:
    try:
        return stat.S_ISCHR(os.fstat(descriptor).st_mode)
    except OSError as error:
        if error.errno != errno.EBADF:  # closed by the caller, and closed inside
            raise
        return False


def _call(number: int, what: str, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock {what}: {os.strerror(code)}")
    return result
