"""What the process that delivers may still do: read the trail's directory, write what its sinks write, and speak to the network.

It is uid 0 without a capability, for the trail is root's, and it talks to receivers that nobody here answers for. Landlock names the files,
a filter the system calls: it starts no program, makes no memory executable, listens nowhere, and opens no unix socket but journald's, for
behind others (a container engine's, D-Bus) stands somebody who is root. Whatever Python would load on first use is loaded before.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import socket
import ssl
import sys
import sysconfig
import termios
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from stockade.audit.file import LineFile
from stockade.audit.sinks import journald
from stockade.audit.sinks.cursor import file_of
from stockade.sandbox import landlock, libc, seccomp
from stockade.sandbox.conditions import CONDITIONS, INET, INET6, UNIX, Argument
from stockade.sandbox.filter import Rule
from stockade.sandbox.landlock import READ, Right
from stockade.settings.sinks import Sink as Rules

log = logging.getLogger(__name__)

_WORD = 0xFFFFFFFF
_TURNED = READ | Right.WRITE_FILE | Right.TRUNCATE | Right.MAKE_REG | Right.REMOVE_FILE  # a directory whose file is rotated
_RESOLVER = ("resolv.conf", "hosts", "nsswitch.conf", "host.conf", "gai.conf", "services", "protocols", "localtime", "ld.so.cache")
_CERTIFICATES = (
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)

_CALLS = (
    *("read", "readv", "write", "writev", "pread64", "pwrite64", "lseek", "close", "fsync", "fdatasync", "ftruncate", "flock"),
    *("open", "openat", "stat", "lstat", "fstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat"),
    *("getdents64", "getcwd", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
    *("connect", "shutdown", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "getsockname", "getpeername", "getsockopt"),
    *("poll", "ppoll", "select", "pselect6", "pipe2"),
    *("munmap", "mremap", "brk", "madvise", "futex", "sched_yield", "sched_getaffinity", "membarrier", "getrandom", "rseq"),
    *("set_robust_list", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "uname", "sysinfo"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "exit", "exit_group"),
    *("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid"),
)
_COMMANDS = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC, fcntl.F_ADD_SEALS)
_CONTROLS = (termios.FIONBIO, termios.FIONREAD, termios.FIOCLEX, termios.FIONCLEX, termios.TIOCOUTQ, termios.TCGETS)
_THREAD = 0x00000100 | 0x00010000  # CLONE_VM | CLONE_THREAD
_EXECUTABLE = 4  # PROT_EXEC
_PR_SET_NAME = 15


def drop() -> None:
    """At once: nothing of root but what its files say."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it holds tokens
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    if os.geteuid() == 0:
        libc.drop_bounding_capabilities()
        libc.drop_capabilities()


def confine(trail: Path, sinks: Sequence[Rules]) -> None:
    """Before any thread, and after each sink was made once. Raises OSError and StockadeError: then nothing is to be delivered."""
    _rehearse(sinks)
    version = landlock.abi()
    if not version:
        log.warning("this kernel has no Landlock: the process of the audit sinks may read and write all files of its user")
    restrict = seccomp.confinement(calls(sinks))
    if version:
        ruleset = landlock.create(version)
        for path, rights in grants(trail, sinks):
            _grant(ruleset, path, rights, version)
        landlock.restrict(ruleset, version)
        os.close(ruleset)
    restrict()


def _rehearse(sinks: Iterable[Rules]) -> None:
    """Resolvers are shared objects, and nothing that is executable is mapped from here on."""
    "xn--bcher-kva.example".encode("idna").decode("idna")
    for host in {"localhost", *filter(None, (host for rules in sinks for host in _hosts(rules)))}:
        try:
            socket.getaddrinfo(host, 0)
        except OSError:  # not now
            continue


def _hosts(rules: Rules) -> Iterator[str | None]:
    yield rules.host or None
    yield urlsplit(rules.url).hostname


def grants(trail: Path, sinks: Sequence[Rules]) -> Iterator[tuple[Path, Right]]:
    """What there is of it when the process begins. `names` are read as the files that they are then: see `replaced`."""
    yield trail.parent, READ
    for rules in sinks:
        cursor = file_of(trail, rules.name)
        LineFile.open(cursor).close()  # it is there from now on, and no right to make another is needed
        yield cursor, Right.READ_FILE | Right.WRITE_FILE | Right.TRUNCATE
        if rules.type == "file":
            yield _there(Path(rules.path).parent), _TURNED
        if rules.type == "journald":
            yield journald.SOCKET.parent, Right.READ_DIR
    for path in names(sinks):
        yield path, Right.READ_FILE
    for directory in (*_CERTIFICATES, "/run/systemd/resolve", "/run/resolvconf", "/usr/share/zoneinfo"):
        yield Path(directory), READ
    verify = ssl.get_default_verify_paths()
    for place in (verify.cafile, verify.capath, verify.openssl_cafile, verify.openssl_capath, *_python()):
        if place:
            yield Path(place), READ
    for node in ("null", "urandom"):
        yield Path("/dev", node), Right.READ_FILE


def names(sinks: Iterable[Rules]) -> Iterator[Path]:
    """Files by name: of the resolver, secrets, and certificates that the settings name. Nothing else of their directories is readable."""
    for name in _RESOLVER:
        yield Path("/etc", name)
    for rules in sinks:
        for text in (rules.token, *rules.headers.values()):
            if text.startswith("file:"):
                yield Path(text.removeprefix("file:"))
        yield from filter(None, (rules.tls.ca, rules.tls.certificate, rules.tls.key))


class Watch:
    """Whether a file by name has become another one: then it cannot be read from here, and a process that begins anew can."""

    def __init__(self, sinks: Sequence[Rules]) -> None:
        self._paths = list(names(sinks))
        self._were = self._are()

    def replaced(self) -> bool:
        """One that is gone for now is not."""
        return any(now is not None and now != was for was, now in zip(self._were, self._are(), strict=True))

    def _are(self) -> list[tuple[int, int] | None]:
        return [_identity(path) for path in self._paths]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _python() -> Iterator[str]:
    """Where modules are: nothing else stands there."""
    yield from (path for path in sysconfig.get_paths().values() if path not in ("/", "/usr"))
    yield from (str(Path(found).resolve()) for found in sys.path if found)


def _there(directory: Path) -> Path:
    """A directory that is made later cannot be granted: the nearest that is there, never the root."""
    return next((one for one in (directory, *directory.parents) if one.is_dir()), directory)


def _grant(ruleset: int, path: Path, rights: Right, version: int) -> None:
    real = path.resolve()
    if real == Path("/"):
        return
    try:
        descriptor = libc.open_path(str(real))
    except OSError:  # it is not there
        return
    try:
        landlock.allow(ruleset, descriptor, rights, version)
    finally:
        os.close(descriptor)


def calls(sinks: Iterable[Rules]) -> tuple[Rule, ...]:
    """The rules of the filter. What they do not speak of is EPERM."""
    journal = any(rules.type == "journald" for rules in sinks)
    conditions: dict[str, Iterable[tuple[Argument, ...]]] = {
        "mmap": ((Argument(2, _EXECUTABLE, 0),),),
        "mprotect": ((Argument(2, _EXECUTABLE, 0),),),
        "clone": ((Argument(0, _THREAD, _THREAD),),),
        "socket": [
            alternative
            for alternative in CONDITIONS["socket"].alternatives
            if alternative[0].value in (INET, INET6)
            or (journal and alternative[0].value == UNIX and alternative[1].value == socket.SOCK_DGRAM)
        ],
        "setsockopt": CONDITIONS["setsockopt"].alternatives,
        "fcntl": [(Argument(1, _WORD, command),) for command in _COMMANDS],
        "ioctl": [(Argument(1, _WORD, command),) for command in _CONTROLS],
        "prctl": ((Argument(0, _WORD, _PR_SET_NAME),),),
    }
    plain = [*_CALLS, "memfd_create"] if journal else _CALLS
    return (
        *(Rule(call) for call in plain),
        *(Rule(call, alternative) for call, alternatives in conditions.items() for alternative in alternatives),
        Rule("clone3", error=errno.ENOSYS),  # its flags are in memory: glibc takes clone instead
    )
