"""System calls that Python has no name for, as functions that raise OSError. Numbers: include/uapi/asm-generic/unistd.h (one for all)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_holding = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock during the call, which a fork must

CLONE_INTO_CGROUP = 0x200000000
_CLONE_VM, _CLONE_VFORK, _CLONE_PARENT, _STACK = 0x100, 0x4000, 0x8000, 1 << 14

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 16384, 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_IDMAP = 1, 2, 4, 8, 0x100000

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_EMPTY_PATHS = 0x4 | 0x40
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH, _RESOLVE_IN_ROOT = 0x2, 0x4, 0x8, 0x10
_SYS_PIDFD_GETFD = 438
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR, _SYS_CLOSE_RANGE, _SYS_OPENAT2, _SYS_CLONE3 = 428, 429, 442, 436, 437, 435

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECCOMP = 1, 4, 24, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 38, 47, 4


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def fork_into(cgroup: int) -> int:
    """os.fork(), with the child born in a cgroup of the v2 hierarchy (clone3(2), 5.7). cgroup: a descriptor of its directory.

    To write into cgroup.procs waits for every CPU to have been through the scheduler: 10 ms (measured, 6.18), and a birth does not. The
    caller has one thread. libc is not told: it goes on taking the child for its parent where it remembers a thread id; nothing here asks.
    """
    return _fork(CLONE_INTO_CGROUP, signal.SIGCHLD, cgroup)


def fork_beside(cgroup: int | None = None) -> int:
    """The same for a child of the caller's own parent, who is told of its end. cgroup None: the caller's."""
    if cgroup is None:
        return _fork(_CLONE_PARENT, 0, 0)
    return _fork(_CLONE_PARENT | CLONE_INTO_CGROUP, 0, cgroup)


def _fork(flags: int, signal_at_end: int, cgroup: int) -> int:
    arguments = struct.pack("<11Q", flags, 0, 0, 0, signal_at_end, 0, 0, 0, 0, 0, cgroup)
    given = ctypes.create_string_buffer(arguments, len(arguments))
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_holding.syscall(_SYS_CLONE3, given, len(arguments)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return _check(pid, "fork")


def namespace_of_the_dead(flags: int) -> int:
    """A child in namespaces of its own (CLONE_NEW*) that is over when this returns, and unreaped: its PID still leads to them in /proc.

    It shares the caller's memory and runs nothing but _exit(2), on a stack of its own: a fork would copy the page tables of a Python, and
    keep it waiting for the copy's end: 3 ms of 0.3 (measured, 6.18). Raises OSError.
    """
    stack = ctypes.create_string_buffer(_STACK)
    top = ctypes.c_void_p((ctypes.addressof(stack) + _STACK) & ~15)
    function = ctypes.cast(_libc._exit, ctypes.c_void_p)
    result = int(_libc.clone(function, top, flags | _CLONE_VM | _CLONE_VFORK | signal.SIGCHLD, None))
    return _check(result, "clone")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode() or None)
    _check(result, f"mount {kind or source} on {target}")


def umount(target: str) -> None:
    """Detach: what is still in use goes when it no longer is."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def open_path(path: str) -> int:
    """An O_PATH descriptor, with no symbolic link anywhere on the way: ELOOP otherwise (openat2(2))."""
    how = ctypes.create_string_buffer(struct.pack("<QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS), 24)
    return _check(_libc.syscall(_SYS_OPENAT2, _AT_FDCWD, os.fsencode(path), how, 24), f"open {path}")


def open_in_root(directory: int, path: str, flags: int) -> int:
    """Open with that directory as the root: neither `..` nor a symbolic link leads out of it (openat2(2)). Raises OSError."""
    how = ctypes.create_string_buffer(struct.pack("<QQQ", flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS), 24)
    return _check(_libc.syscall(_SYS_OPENAT2, directory, os.fsencode(path), how, 24), f"open {path}")


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open what that directory has below it, with no symbolic link on the way: ELOOP otherwise (openat2(2)). Raises OSError."""
    how = ctypes.create_string_buffer(struct.pack("<QQQ", flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS), 24)
    return _check(_libc.syscall(_SYS_OPENAT2, directory, os.fsencode(path), how, 24), f"open {path}")


def detached(source: str, attributes: int) -> int:
    """A copy of the mount of one file or directory, in no namespace yet, with MOUNT_ATTR_* on it. Raises OSError."""
    opened = open_path(source)
    try:
        flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH
        tree = _check(_libc.syscall(_SYS_OPEN_TREE, opened, b"", flags), f"open {source}")
    finally:
        os.close(opened)
    _set_attributes(tree, source, 0, attributes, 0)
    return tree


def descriptor_of(pidfd: int, number: int) -> int:
    """A copy of a descriptor that another process has open (pidfd_getfd(2), 5.6). Raises OSError."""
    return _check(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0), "pidfd_getfd")


def move_mount(tree: int, place: int) -> None:
    """Attach what `detached` made to a place in this thread's mount namespace. Both are descriptors. Raises OSError."""
    _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", place, b"", _MOVE_MOUNT_EMPTY_PATHS), "mount")


def bind(source: str, target: str, attributes: int, user_namespace: int | None = None) -> None:
    """Bind source with everything mounted below it, with MOUNT_ATTR_* on all of it (mount(2)'s own flags miss what lies below).

    Neither path may lead through a symbolic link: what a sandbox could write yesterday must not say today what is shown.
    user_namespace: descriptor of a user namespace whose maps say which owner on disk is which user in the mount (mount_setattr(2)).
    """
    opened = open_path(source)
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE | _AT_EMPTY_PATH
    try:
        tree = _check(_libc.syscall(_SYS_OPEN_TREE, opened, b"", flags), f"open {source}")
    finally:
        os.close(opened)
    try:
        _set_attributes(tree, source, _AT_RECURSIVE, attributes, 0)
        if user_namespace is not None:  # the mounts below keep their owners
            _map_owners(tree, source, user_namespace)
        place = open_path(target)
        try:
            _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", place, b"", _MOVE_MOUNT_EMPTY_PATHS), f"bind {source} on {target}")
        finally:
            os.close(place)
    finally:
        os.close(tree)


def _map_owners(tree: int, source: str, user_namespace: int) -> None:
    try:
        _set_attributes(tree, source, 0, MOUNT_ATTR_IDMAP, user_namespace)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        why = "on its file system this kernel cannot map owners (tmpfs: before 6.3)"
        raise OSError(errno.EINVAL, f"{source} is not the sandbox's, and {why}: chown it, or keep it elsewhere") from None


def _set_attributes(tree: int, source: str, recursive: int, attributes: int, user_namespace: int) -> None:
    attr = ctypes.create_string_buffer(struct.pack("<QQQQ", attributes, 0, 0, user_namespace), 32)
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | recursive, attr, 32), f"set attributes of {source}")


def set_title(title: str) -> None:
    """What /proc/PID/cmdline shows of this process: its own arguments name the policy and the trail. Needs /proc."""
    file = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fields = os.read(file, 4096).rpartition(b")")[2].split()
    finally:
        os.close(file)
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end: 48 and 49, counted from the PID
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, title.encode(), min(len(title), end - start - 1))


def pivot_root(new_root: str) -> None:
    """Make new_root the root and leave nothing of the old one in view (pivot_root(2), the "." "." form)."""
    os.chdir(new_root)
    _check(_libc.pivot_root(b".", b"."), f"pivot_root {new_root}")
    umount(".")
    os.chdir("/")


def prctl(option: int, *arguments: int) -> int:
    return _check(_libc.prctl(option, *(*arguments, 0, 0, 0, 0)[:4]), f"prctl {option}")


def set_hostname(name: str) -> None:
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)), "sethostname")


def give_back() -> None:
    """Let the kernel have what malloc holds free (malloc_trim(3)), where this C library can."""
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(0)


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    _check(_libc.syscall(_SYS_CLOSE_RANGE, first, 0xFFFFFFFF, 0), "close_range")


def close_on_exec_from(first: int) -> None:
    """Let every descriptor from `first` on be closed by the next exec (CLOSE_RANGE_CLOEXEC, 5.11)."""
    _check(_libc.syscall(_SYS_CLOSE_RANGE, first, 0xFFFFFFFF, 4), "close_range")


def apply_seccomp(program: bytes) -> None:
    """Filter this thread and its children. program: struct sock_filter[], 8 bytes each; no_new_privs must be set."""
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    fprog = Program(len(program) // 8, ctypes.addressof(code))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(fprog))


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets of this thread (capset(2), version 3: 64 bits in two words)."""
    header, nothing = struct.pack("<Ii", 0x20080522, 0), bytes(24)
    _check(_libc.capset(header, nothing), "capset")


def drop_bounding_capabilities() -> None:
    """Empty the bounding and ambient sets: no exec gives a capability back."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    capability = 0
    while not _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
        capability += 1
    if not capability or ctypes.get_errno() != errno.EINVAL:  # which says that the one before was the last that the kernel knows
        _check(-1, f"drop capability {capability}")
