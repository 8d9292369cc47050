"""The system call filter, by making the calls under it: each in a child that is filtered as the sandbox is."""

from __future__ import annotations

import ast
import ctypes
import errno
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stockade.policy.model import Seccomp
from stockade.sandbox import seccomp
from stockade.sandbox.filter import compile_filter

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls as on x86-64")

FILTER = compile_filter(seccomp.sandbox())

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


def under(directory: Path, code: str, program: bytes = FILTER) -> int:
    """What the code's `outcome` is, under the filter."""
    agent = str(Path(seccomp.__file__).parents[2])
    text = CHILD.format(agent=agent) + textwrap.dedent(code) + "\nos.write(1, str(outcome).encode()); os._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", text, program.hex()], cwd=directory, capture_output=True, text=True, timeout=20)
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
    ("a listener beside other flags", "call(317, 1, 8 | 2, 0)"),
    ("TIOCCONS", "call(16, 0, 0x541D, 0)"),
    ("TIOCSETD", "call(16, 0, 0x5423, bytes(4))"),
    ("fsopen", "call(430, b'tmpfs', 0)"),
    ("move_mount", "call(429, -1, b'', -1, b'', 0)"),
    ("mount_setattr", "call(442, -1, b'', 0, bytes(32), 32)"),
    ("reboot", "call(169, 0, 0, 0, 0)"),
    ("kexec_load", "call(246, 0, 0, 0, 0)"),
    ("kexec_file_load", "call(320, -1, -1, 0, 0, 0)"),
    ("init_module", "call(175, 0, 0, b'')"),
    ("finit_module", "call(313, -1, b'', 0)"),
    ("delete_module", "call(176, b'none', 0)"),
    ("swapon", "call(167, b'file', 0)"),
    ("io_uring_enter", "call(426, -1, 0, 0, 0, 0, 0)"),
    ("io_uring_register", "call(427, -1, 0, 0, 0)"),
    ("request_key", "call(249, b'user', b'x', 0, -3)"),
    ("name_to_handle_at", "call(303, -100, b'file', 0, 0, 0)"),
    ("process_madvise", "call(440, -1, 0, 0, 0, 0)"),
    ("memfd_create", "call(319, b'x', 0)"),
    ("memfd_create, sealed against exec", "call(319, b'x', 8)"),
    ("memfd_secret", "call(447, 0)"),
    ("settimeofday", "call(164, 0, 0)"),
    ("clock_settime", "call(227, 0, bytes(16))"),
    ("sethostname", "call(170, b'x', 1)"),
    ("syslog", "call(103, 10, 0, 0)"),
    ("iopl", "call(172, 3)"),
    ("fanotify_init", "call(300, 0, 0)"),
    ("vmsplice", "call(278, -1, 0, 0, 0)"),
    ("a device node", "tried(lambda: os.mknod('node', 0o020644, os.makedev(1, 3)))"),
    ("a block device node", "tried(lambda: os.mknod('node', 0o060644, os.makedev(8, 0)))"),
    ("personality: READ_IMPLIES_EXEC", "call(135, 0x400000)"),
    ("personality: ADDR_NO_RANDOMIZE", "call(135, 0x40000)"),
    ("PR_SET_MM", "call(157, 35, 13, 0, 0, 0)"),
    ("PR_SET_MM with high bits", "call(157, 35 | 1 << 32, 13, 0, 0, 0)"),
    ("PR_SET_PTRACER", "call(157, 0x59616D61, -1, 0, 0, 0)"),
    ("PR_SET_SYSCALL_USER_DISPATCH", "call(157, 59, 0, 0, 0, 0)"),
    ("a protocol in TCP's place", "call(54, socket.socket().fileno(), 6, 31, b'tls', 4)"),
    ("a program on a socket", "call(54, socket.socket().fileno(), 1, 26, bytes(16), 16)"),
    ("a program that shares out connections", "call(54, socket.socket().fileno(), 1, 51, bytes(16), 16)"),
    ("options of SCTP", "call(54, 0, 132, 0, b'', 0)"),
    ("a pair of TIPC sockets", "call(53, 30, 1, 0, bytes(8))"),
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
    ("AF_UNIX, its other kinds", "socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK", 0),
    ("TCP by name", "socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP", 0),
    ("UDP by name", "socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP", 0),
    ("raw", "socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW", errno.EPERM),
    ("ping", "socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP", errno.EPERM),
    ("ping, v6", "socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6", errno.EPERM),
    ("MPTCP", "socket.AF_INET, socket.SOCK_STREAM, 262", errno.EPERM),
    ("SCTP", "socket.AF_INET, socket.SOCK_SEQPACKET, 132", errno.EPERM),
    ("UDP-Lite", "socket.AF_INET, socket.SOCK_DGRAM, 136", errno.EPERM),
    ("DCCP", "socket.AF_INET, 6, 33", errno.EPERM),
    ("SOCK_PACKET", "socket.AF_INET, 10", errno.EPERM),
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
    ("AF_BLUETOOTH", "31, socket.SOCK_RAW", errno.EAFNOSUPPORT),
    ("AF_RDS", "21, socket.SOCK_SEQPACKET", errno.EAFNOSUPPORT),
    ("AF_SMC", "43, socket.SOCK_STREAM", errno.EAFNOSUPPORT),
    ("a family that is none", "4711, socket.SOCK_STREAM", errno.EPERM),
]


@pytest.mark.parametrize(("family", "arguments", "expected"), SOCKETS, ids=[family for family, *_ in SOCKETS])
def test_socket_families(directory: Path, family: str, arguments: str, expected: int) -> None:
    assert under(directory, f"outcome = tried(lambda: socket.socket({arguments}))") == expected


ABSENT = [
    ("clone3", "call(435, 0, 0)"),
    ("openat2", "call(437, -100, b'file', 0, 0)"),
    ("fchmodat2", "call(452, -100, b'file', 0, 0)"),
    ("statmount, which is newer than what was judged", "call(457, 0, 0, 0, 0)"),
    ("open_tree_attr, newer still", "call(467, -1, b'', 0, 0, 0)"),
    ("a call that no kernel has yet", "call(5000)"),
]


@pytest.mark.parametrize(("what", "attempt"), ABSENT, ids=[what for what, _ in ABSENT])
def test_what_a_filter_cannot_read_or_nobody_judged_is_absent(directory: Path, what: str, attempt: str) -> None:
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
    ("asking which personality", "outcome = call(135, 0xFFFFFFFF)"),
    ("PR_SET_NAME", "outcome = call(157, 15, b'x', 0, 0, 0)"),
    ("PR_SET_PDEATHSIG", "outcome = call(157, 1, 15, 0, 0, 0)"),
    ("clone without a namespace", "pid = c.syscall(56, 17, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\noutcome = os.waitpid(pid, 0)[1]"),
    ("an option of TCP", "outcome = tried(lambda: socket.socket().setsockopt(6, 1, 1))"),
    ("an option of the socket", "outcome = tried(lambda: socket.socket().setsockopt(1, 2, 1))"),
    (
        "a pair of sockets, and a descriptor through it",
        """
        a, b = socket.socketpair()
        socket.send_fds(a, [b'x'], [0])
        outcome = 0 if len(socket.recv_fds(b, 1, 1)[1]) == 1 else 1""",
    ),
    (
        "a shared semaphore and process pools",
        """
        import multiprocessing
        with multiprocessing.get_context('fork').Pool(2) as pool: outcome = sum(pool.map(abs, [-1, -2])) - 3""",
    ),
    ("System V memory", "identifier = c.shmget(0, 4096, 0o600 | 0o1000); outcome = c.shmctl(identifier, 0, 0)"),
    ("extended attributes", "outcome = 0 if tried(lambda: os.setxattr('file', 'user.x', b'1')) in (0, 95) else 1"),
    (
        "a file of its own size, copied in the kernel",
        """
        a, b = os.open('file', os.O_RDWR), os.open('copy', os.O_CREAT | os.O_RDWR, 0o600)
        os.write(a, b'x' * 100); os.posix_fallocate(b, 0, 10)
        outcome = os.copy_file_range(a, b, 100, 0) - 100""",
    ),
    ("job control", "import signal; os.setpgid(0, 0); signal.signal(signal.SIGTTOU, signal.SIG_IGN); outcome = 0"),
    (
        "a timer",
        "import signal; signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(0, 0.01, 0.01); signal.pause(); outcome = 0",
    ),
    ("a ruleset of Landlock", "outcome = 0 if call(444, 0, 0, 1) in (0, 95) else 1"),
    ("placement of memory", "outcome = 0 if call(239, 0, 0, 0, 0, 0) in (0, 38) else 1"),
    ("a pidfd", "os.pidfd_open(os.getpid()); outcome = 0"),
]


@pytest.mark.parametrize(("what", "code"), ORDINARY, ids=[what for what, _ in ORDINARY])
def test_ordinary_calls_pass(directory: Path, what: str, code: str) -> None:
    assert under(directory, code) == 0


def test_a_file_without_a_name_is_the_policys_to_allow(directory: Path) -> None:
    program = compile_filter(seccomp.sandbox(executable=True))
    assert under(directory, "outcome = call(319, b'x', 0)", program) == 0
    assert under(directory, "outcome = call(447, 0)", program) == errno.EPERM


def test_a_policy_changes_the_list(directory: Path) -> None:
    attempts = "outcome = call(206, 1, bytes(8)) * 100 + call(53, 1, 1, 0, bytes(8))"
    assert under(directory, attempts) == errno.EPERM * 100
    changed = compile_filter(seccomp.sandbox(Seccomp(allow=("io_setup", "ptrace"), deny=("socketpair",))))
    assert under(directory, attempts, changed) == errno.EPERM
    assert under(directory, "outcome = call(101, 0, 0, 0, 0)", changed) == errno.EPERM, "the boundary holds whatever the model says"


# Exits with 0 when the call was answered. int 0x80 has i386's numbers, where 20 is getpid; bit 30 is of x32, whose getpid is 39.
FOREIGN = {
    "i386": """int main(void) { long answer; __asm__ volatile("int $0x80" : "=a"(answer) : "a"(20L) : "memory"); return answer <= 0; }""",
    "x32": """
        #include <errno.h>
        #include <unistd.h>
        #include <sys/syscall.h>
        int main(void) { return syscall(0x40000000L | 39) <= 0 && errno != ENOSYS; }""",
}


@pytest.mark.parametrize("abi", FOREIGN)
def test_calls_of_another_architecture_end_the_process(tmp_path: Path, abi: str) -> None:
    """The same number is another call there. Without the filter the program lives: x32 is answered, or absent where it was not built."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    (tmp_path / "foreign.c").write_text(FOREIGN[abi])
    subprocess.run(["gcc", "-o", tmp_path / "foreign", tmp_path / "foreign.c"], check=True)
    free = subprocess.run([tmp_path / "foreign"]).returncode
    if abi == "i386" and free == -signal.SIGSEGV:
        pytest.skip("this kernel answers no 32-bit calls (CONFIG_IA32_EMULATION)")
    assert free == 0
    assert under(tmp_path, "import subprocess; outcome = subprocess.run(['./foreign']).returncode") == -signal.SIGSYS


WORKER = [
    ("open", (2, b"/etc/passwd", 0), errno.EPERM),
    ("openat", (257, -100, b"/etc/passwd", 0, 0), errno.EPERM),
    ("openat2", (437, -100, b"/etc/passwd", 0, 0), errno.EPERM),
    ("execve", (59, b"/bin/true", 0, 0), errno.EPERM),
    ("execveat", (322, -100, b"/bin/true", 0, 0, 0), errno.EPERM),
    ("fork", (57,), errno.EPERM),
    ("vfork", (58,), errno.EPERM),
    ("clone", (56, 17, 0, 0, 0, 0), errno.EPERM),
    ("a thread", (56, 0x50F00, 0, 0, 0, 0), errno.EPERM),
    ("clone3", (435, 0, 0), errno.EPERM),
    ("kill", (62, 0, 0), errno.EPERM),
    ("link", (86, b"/a", b"/b"), errno.EPERM),
    ("unlink", (87, b"/a"), errno.EPERM),
    ("stat", (4, b"/etc/passwd", 0), errno.EPERM),
    ("readlink", (89, b"/proc/self/exe", 0, 0), errno.EPERM),
    ("ptrace", (101, 0, 0, 0, 0), errno.EPERM),
    ("a datagram socket", (41, 2, 2, 0), errno.EPERM),
    ("a unix socket", (41, 1, 1, 0), errno.EPERM),
    ("bind", (49, 0, 0, 0), errno.EPERM),
    ("listen", (50, 0, 1), errno.EPERM),
    ("memory that is executable", (9, 0, 4096, 5, 0x22, -1, 0), errno.EPERM),
    ("memory made executable", (10, 0, 4096, 5), errno.EPERM),
    ("a file without a name", (319, b"x", 0), errno.EPERM),
    ("a terminal", (16, 0, 0x5412, b"x"), errno.EPERM),
    ("setuid", (105, 0), errno.EPERM),
    ("a stream", (41, 2, 0x80801, 6), 0),
    ("a stream, v6", (41, 10, 1, 0), 0),
    ("memory", (9, 0, 4096, 3, 0x22, -1, 0), 0),
    ("an epoll", (291, 0), 0),
]


def test_a_worker_opens_nothing_and_starts_nothing() -> None:
    """confinement(): prctl, filter, and from then on only what is open."""
    confine = seccomp.confinement(seccomp.WORKER)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            libc.syscall.restype = ctypes.c_long
            confine()
            for _, (number, *arguments), _ in WORKER:
                words = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
                said.append(ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *words) < 0 else 0)
        finally:
            os.write(write, repr(said).encode())
            os._exit(0)
    assert select.select([read], [], [], 10)[0]
    said = ast.literal_eval(os.read(read, 1000).decode())
    assert dict(zip((what for what, _, _ in WORKER), said, strict=True)) == {what: expected for what, _, expected in WORKER}
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)
