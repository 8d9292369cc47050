"""What bpf/refusal.c counts: which refused system calls are told of, and how the counts are read. Knows no policy and writes no record.

Read in turns. Each turn has a number, which the program puts into every key: what is read and deleted is what was counted under the numbers
before, at which no program writes any more. So no count is lost between reading and deleting, and the map holds two turns' worth.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag

from stockade.kernel import abi, syscall
from stockade.types import StockadeError

_ZERO = struct.pack("<I", 0)
_U32 = struct.Struct("<I")


class Told(IntFlag):
    """enum refused: with which errors a call is told of, and where its path is."""

    NEVER = 0
    EPERM = 1
    EACCES = 2
    EROFS = 4
    EPROTONOSUPPORT = 8
    EAFNOSUPPORT = 16
    FIRST_PATH = 32
    SECOND_PATH = 64
    UNIX = 128  # the second argument is a socket's address: of a unix socket alone


_FILE = Told.EPERM | Told.EACCES | Told.EROFS
_OTHER = Told.EPERM | Told.EACCES

EXECS = {"execve": Told.EACCES | Told.FIRST_PATH, "execveat": Told.EACCES | Told.SECOND_PATH}  # EPERM is lsm.c's, which has told it


def _calls(names: str) -> frozenset[str]:
    return frozenset(names.split())


_FILE_FIRST = _calls(
    """open creat truncate mkdir rmdir rename link unlink symlink chmod chown lchown utime utimes chdir setxattr lsetxattr removexattr
    lremovexattr statfs"""
)
_FILE_SECOND = _calls(
    "openat openat2 mkdirat fchownat unlinkat renameat renameat2 linkat fchmodat fchmodat2 futimesat utimensat"  # in the first: a directory
)
_FILE_OPEN = _calls("ftruncate fchmod fchown fsetxattr fremovexattr fallocate symlinkat")
_MAPPINGS = _calls("mmap mprotect pkey_mprotect")  # code, from a noexec mount
FILES = _FILE_FIRST | _FILE_SECOND | _FILE_OPEN | _MAPPINGS
_OTHER_FIRST = _calls("mknod chroot uselib swapon swapoff acct umount2 pivot_root")
_OTHER_SECOND = _calls("mknodat mount move_mount open_tree name_to_handle_at inotify_add_watch")
# On record already (connect.c, sock.c, skb.c); or the error is an answer and no refusal: setsid() of a leader, access(), stat().
_QUIET = _calls(
    """bind sendto sendmsg sendmmsg setsid setpgid access faccessat faccessat2 stat lstat newfstatat statx readlink readlinkat getxattr
    lgetxattr fgetxattr listxattr llistxattr flistxattr futex"""
)

TOLD: dict[str, Told] = {
    **dict.fromkeys(_FILE_FIRST | _OTHER_FIRST, _FILE | Told.FIRST_PATH),
    **dict.fromkeys(_FILE_SECOND | _OTHER_SECOND, _FILE | Told.SECOND_PATH),
    **dict.fromkeys(_FILE_OPEN, _FILE),
    **dict.fromkeys(_QUIET, Told.NEVER),
    **EXECS,
    "connect": _OTHER | Told.UNIX,
    "socket": _OTHER | Told.EPROTONOSUPPORT | Told.EAFNOSUPPORT,
}  # every other call with EPERM and EACCES


@dataclass(frozen=True, slots=True)
class Refusal:
    """One call of one exec with one error on one path, in one turn.

    began: when the first was, in ns of CLOCK_MONOTONIC. call: its name. error: errno. times: exact. pid: of the last one. path: as the
    caller's memory had it, b"" when there is none. exec_id and identity are 0 for a process without a tag, and for what was beyond
    REFUSALS_APART in one turn: that is counted by call and error alone, without a path.
    """

    began: int
    sandbox: int
    exec_id: int
    identity: int
    call: str
    error: int
    path: bytes
    times: int
    pid: int
    generation: int


class Refusals:
    """The maps of bpf/refusal.c, by their descriptors."""

    def __init__(self, calls: int, counts: int, epoch: int, *, mappings_told: bool) -> None:
        """mappings_told: lsm.c tells of the EPERM of what is not mapped as code. Raises StockadeError without libseccomp, OSError."""
        self._counts, self._epoch = counts, epoch
        (self._turn,) = _U32.unpack(syscall.map_lookup(epoch, _ZERO, _U32.size) or _ZERO)  # maps that were pinned go on where they were
        self._names = dict(_numbered())
        silent = _MAPPINGS if mappings_told else frozenset()
        told = {number: Told.EACCES if name in silent else TOLD.get(name, _OTHER) for number, name in self._names.items()}
        syscall.map_update_many(calls, b"".join(map(_U32.pack, told)), b"".join(map(_U32.pack, told.values())), len(told))

    def take(self, *, everything: bool = False) -> list[Refusal]:
        """What was counted in the turns before, each once, and begin the next. everything: this turn too, once nobody is left to count."""
        found = []
        for key in list(self._keys()):
            sandbox, identity, exec_id, turn, call, error, path = abi.REFUSAL_KEY.unpack(key)
            if turn == self._turn and not everything:
                continue
            value = syscall.map_lookup(self._counts, key, abi.REFUSAL.size)
            syscall.map_delete(self._counts, key)
            if value is None or call == abi.REFUSAL_ROOM:
                continue
            times, began, pid, generation = abi.REFUSAL.unpack(value)
            name = self._names.get(call, str(call))
            found.append(Refusal(began, sandbox, exec_id, identity, name, error, path.partition(b"\0")[0], times, pid, generation))
        self._turn = (self._turn + 1) & 0xFFFFFFFF
        syscall.map_update(self._epoch, _ZERO, _U32.pack(self._turn))
        return sorted(found, key=lambda refusal: refusal.began)

    def _keys(self) -> Iterator[bytes]:
        """A key that is inserted meanwhile may be missed: it is of this turn. The programs delete none."""
        key = None
        while (key := syscall.map_next_key(self._counts, key, abi.REFUSAL_KEY.size)) is not None:
            yield key


def error_name(number: int) -> str:
    return errno.errorcode.get(number, str(number))


def _numbered() -> Iterator[tuple[int, str]]:
    """(number, name) of this machine's system calls, those that libseccomp knows."""
    try:
        lib = ctypes.CDLL("libseccomp.so.2")
        libc = ctypes.CDLL(None)
    except OSError:
        raise StockadeError("libseccomp.so.2 is missing", hint="apt-get install libseccomp2", code="no_seccomp") from None
    resolve = lib.seccomp_syscall_resolve_num_arch
    resolve.restype, resolve.argtypes = ctypes.c_void_p, [ctypes.c_uint32, ctypes.c_int]
    libc.free.argtypes = [ctypes.c_void_p]
    lib.seccomp_arch_native.restype = ctypes.c_uint32
    native = lib.seccomp_arch_native()
    for number in range(abi.REFUSED_CALLS):
        if found := resolve(native, number):
            yield number, ctypes.string_at(found).decode()
            libc.free(found)
