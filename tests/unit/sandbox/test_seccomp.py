"""The system call filter, by making the calls under it: each in a child that is filtered as the sandbox is."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stockade.sandbox import seccomp

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls as on x86-64")

FILTER = seccomp.compile_filter(seccomp.SANDBOX, families=True)

CHILD = """
import ctypes, os, socket, sys
sys.path.insert(0, {agent!r})
from stockade.sandbox import libc
libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
libc.apply_seccomp(bytes.fromhex(sys.argv[1]))
c = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    words = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    return ctypes.get_errno() if c.syscall(ctypes.c_long(number), *words) < 0 else 0

def tried(attempt):
    try:
        attempt()
    except OSError as error:
        return error.errno
    return 0
"""


def under(directory: Path, code: str) -> int:
    """What the code's `outcome` is, under the filter."""
    agent = str(Path(seccomp.__file__).parents[2])
    program = CHILD.format(agent=agent) + textwrap.dedent(code) + "\nos.write(1, str(outcome).encode()); os._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", program, FILTER.hex()], cwd=directory, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


REFUSED = [
    ("ptrace", "call(101, 0, 0, 0, 0)"),
    ("process_vm_readv", "call(310, os.getpid(), 0, 0, 0, 0, 0)"),
    ("process_vm_writev", "call(311, os.getpid(), 0, 0, 0, 0, 0)"),
    ("pidfd_getfd", "call(438, -1, 0, 0)"),
    ("kcmp", "call(312, os.getpid(), os.getpid(), 0, 0, 0)"),
    ("mount", "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)"),
    ("umount2", "call(166, b'/nowhere', 0)"),
    ("pivot_root", "call(155, b'/nowhere', b'/nowhere')"),
    ("chroot", "call(161, b'/')"),
    ("open_tree", "call(428, -1, b'', 0)"),
    ("unshare", "call(272, 0x10000000)"),
    ("setns", "call(308, -1, 0)"),
    ("bpf", "call(321, 0, 0, 0)"),
    ("perf_event_open", "call(298, 0, 0, -1, -1, 0)"),
    ("userfaultfd", "call(323, 0)"),
    ("io_uring_setup", "call(425, 1, 0)"),
    ("keyctl", "call(250, 0, -3, 0)"),
    ("add_key", "call(248, b'user', b'x', b'x', 1, -3)"),
    ("open_by_handle_at", "call(304, -1, 0, 0)"),
    ("clone into a user namespace", "call(56, 0x10000000 | 17, 0, 0, 0, 0)"),
    ("clone into a network namespace", "call(56, 0x40000000 | 17, 0, 0, 0, 0)"),
    ("chmod set-uid", "tried(lambda: os.chmod('file', 0o4755))"),
    ("chmod set-gid", "tried(lambda: os.chmod('file', 0o2755))"),
    ("fchmod set-uid", "tried(lambda: os.fchmod(os.open('file', os.O_RDONLY), 0o4755))"),
    ("fchmodat set-uid", "call(268, -100, b'file', 0o4755)"),
    ("creat set-uid", "call(85, b'new', 0o4755)"),
    ("open O_CREAT set-uid", "call(2, b'new', os.O_CREAT | os.O_WRONLY, 0o4755)"),
    ("openat O_CREAT set-uid", "tried(lambda: os.open('new', os.O_CREAT | os.O_WRONLY, 0o4755))"),
    ("openat O_CREAT set-gid", "tried(lambda: os.open('new', os.O_CREAT | os.O_WRONLY, 0o2755))"),
    ("openat O_TMPFILE set-uid", "tried(lambda: os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o4755))"),
    ("mknod set-uid", "tried(lambda: os.mknod('node', 0o104755))"),
    ("mknodat set-uid", "call(259, -100, b'node', 0o104755, 0)"),
    ("TIOCSTI", "call(16, 0, 0x5412, b'x')"),
    ("TIOCSTI with high bits", "call(16, 0, 0x5412 | 1 << 32, b'x')"),
    ("TIOCLINUX", "call(16, 0, 0x541C, b'x')"),
    ("a listener over one's children", "call(317, 1, 8, 0)"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path


@pytest.mark.parametrize(("what", "attempt"), REFUSED, ids=[what for what, _ in REFUSED])
def test_refused(directory: Path, what: str, attempt: str) -> None:
    assert under(directory, f"outcome = {attempt}") == errno.EPERM
    assert not any(path.stat().st_mode & 0o6000 for path in directory.iterdir())


SOCKETS = [
    ("AF_UNIX", "socket.AF_UNIX, socket.SOCK_STREAM", 0),
    ("AF_INET", "socket.AF_INET, socket.SOCK_STREAM", 0),
    ("AF_INET6", "socket.AF_INET6, socket.SOCK_DGRAM", 0),
    ("NETLINK_ROUTE", "socket.AF_NETLINK, socket.SOCK_RAW, 0", 0),
    ("NETLINK_KOBJECT_UEVENT", "socket.AF_NETLINK, socket.SOCK_RAW, 15", errno.EPROTONOSUPPORT),
    ("NETLINK_AUDIT", "socket.AF_NETLINK, socket.SOCK_RAW, 9", errno.EPROTONOSUPPORT),
    ("AF_PACKET", "17, socket.SOCK_RAW", errno.EAFNOSUPPORT),
    ("AF_VSOCK", "40, socket.SOCK_STREAM", errno.EAFNOSUPPORT),
    ("AF_ALG", "38, 5", errno.EAFNOSUPPORT),
    ("AF_XDP", "44, socket.SOCK_RAW", errno.EAFNOSUPPORT),
    ("AF_KEY", "15, socket.SOCK_RAW, 2", errno.EAFNOSUPPORT),
    ("AF_TIPC", "30, socket.SOCK_STREAM", errno.EAFNOSUPPORT),
    ("AF_AX25", "3, socket.SOCK_DGRAM", errno.EAFNOSUPPORT),
    ("a family that is none", "4711, socket.SOCK_STREAM", errno.EAFNOSUPPORT),
]


@pytest.mark.parametrize(("family", "arguments", "expected"), SOCKETS, ids=[family for family, *_ in SOCKETS])
def test_socket_families(directory: Path, family: str, arguments: str, expected: int) -> None:
    assert under(directory, f"outcome = tried(lambda: socket.socket({arguments}))") == expected


ABSENT = [("clone3", "call(435, 0, 0)"), ("openat2", "call(437, -100, b'file', 0, 0)"), ("fchmodat2", "call(452, -100, b'file', 0, 0)")]


@pytest.mark.parametrize(("what", "attempt"), ABSENT, ids=[what for what, _ in ABSENT])
def test_what_a_filter_cannot_read_is_absent(directory: Path, what: str, attempt: str) -> None:
    """ENOSYS, so that libc falls back to the call whose arguments are in registers."""
    assert under(directory, f"outcome = {attempt}") == errno.ENOSYS


ORDINARY = [
    ("fork", "pid = os.fork()\nif pid == 0: os._exit(0)\noutcome = os.waitpid(pid, 0)[1]"),
    ("thread", "import threading; t = threading.Thread(target=int); t.start(); t.join(); outcome = 0"),
    ("posix_spawn", "outcome = os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)[1]"),
    ("open with whatever is in the mode's register", "outcome = call(257, -100, b'file', 0, 0o4755)"),
    ("create", "outcome = tried(lambda: os.open('new', os.O_CREAT | os.O_WRONLY, 0o755))"),
    ("chmod", "outcome = tried(lambda: os.chmod('file', 0o755))"),
    ("sticky", "outcome = tried(lambda: os.mkdir('d') or os.chmod('d', 0o1777))"),
    ("mkfifo", "outcome = tried(lambda: os.mkfifo('fifo', 0o644))"),
    ("terminal size", "outcome = 0 if call(16, 0, 0x5413, bytes(8)) == 25 else 1"),
    ("a filter of one's own", "outcome = 0 if call(317, 1, 0, 0) in (14, 22) else 1"),
    ("inotify", "outcome = 0 if call(294, 0) == 0 else 1"),
    ("epoll", "import select; select.epoll(); outcome = 0"),
    ("memfd", "os.memfd_create('x'); outcome = 0"),
    ("a pidfd", "os.pidfd_open(os.getpid()); outcome = 0"),
]


@pytest.mark.parametrize(("what", "code"), ORDINARY, ids=[what for what, _ in ORDINARY])
def test_ordinary_calls_pass(directory: Path, what: str, code: str) -> None:
    assert under(directory, code) == 0


def test_calls_of_other_architectures_are_killed_or_refused() -> None:
    """A 32-bit call has other numbers: the filter begins by asking which architecture speaks, and lets no other through."""
    instructions = [struct.unpack_from("<HBBI", FILTER, at) for at in range(0, len(FILTER), 8)]
    load, compare = instructions[0], instructions[1]
    assert load == (0x20, 0, 0, 4), "the first word read is seccomp_data.arch"
    assert (compare[0], compare[3]) == (0x15, 0xC000003E)
    wrong = instructions[2 + compare[2]]
    assert (wrong[0], wrong[3] & 0xFFFF0000) == (0x06, 0x00000000), "SECCOMP_RET_KILL_THREAD"


def test_a_worker_opens_nothing_and_starts_nothing(tmp_path: Path) -> None:
    """confinement(): prctl, filter, and from then on only what is open."""
    confine = seccomp.confinement(seccomp.WORKER)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            confine()
            for number, arguments in (
                (257, (-100, b"/etc/passwd", 0, 0)),
                (2, (b"/etc/passwd", 0)),
                (59, (b"/bin/true", 0, 0)),
                (57, ()),
                (62, (0, 0)),
            ):
                said.append(ctypes.get_errno() if libc.syscall(number, *arguments) < 0 else 0)
            socket.socket().close()
            said.append(0)
        finally:
            os.write(write, repr(said).encode())
            os._exit(0)
    assert select.select([read], [], [], 10)[0]
    assert os.read(read, 100).decode() == repr([errno.EPERM] * 5 + [0])
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def test_every_refused_call_is_known_to_libseccomp() -> None:
    """A name that libseccomp cannot resolve would be left out in silence. Those below it truly lacks, or the architecture does."""
    lib = ctypes.CDLL("libseccomp.so.2")
    unknown = {r.call for r in (*seccomp.SANDBOX, *seccomp.WORKER) if lib.seccomp_syscall_resolve_name(r.call.encode()) == -1}
    assert unknown <= {"fchmodat2"}, unknown
