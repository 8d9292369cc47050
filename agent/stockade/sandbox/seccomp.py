"""The filters in force: a sandbox's, an allowlist that a policy may narrow and widen, and a proxy worker's, which serves and does no more.

What they allow stands in syscalls.py, with which arguments in conditions.py; filter.py compiles it.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import termios
from collections.abc import Callable, Iterable

from stockade.policy.model import Seccomp
from stockade.sandbox import libc
from stockade.sandbox.conditions import CONDITIONS, INET, INET6, Argument
from stockade.sandbox.filter import Rule, compile_filter
from stockade.sandbox.syscalls import ABSENT, allowed

_UNCHANGED = Seccomp()


def sandbox(stated: Seccomp = _UNCHANGED, *, executable: bool = False) -> tuple[Rule, ...]:
    """The rules of a sandbox's filter. What they do not speak of is EPERM."""
    return (*_rules(sorted(allowed(stated.allow, stated.deny, executable=executable))), *_absent())


def _rules(calls: Iterable[str]) -> Iterable[Rule]:
    for call in calls:
        condition = CONDITIONS.get(call)
        if condition is None:
            yield Rule(call)
        else:
            yield from (Rule(call, alternative) for alternative in condition.alternatives)
            yield from (Rule(call, alternative, error) for error, alternative in condition.otherwise)


def _absent() -> Iterable[Rule]:
    """fchmodat2 is above NEWEST_JUDGED, so absent without a rule; not every libseccomp could name it."""
    return (Rule(call, error=errno.ENOSYS) for call in ABSENT.calls if call != "fchmodat2")


# What a proxy worker calls once it serves, with everything open that it will need. It opens no file, starts no program and no thread,
# signals nobody, and makes no memory executable.
_PAGES_EXECUTABLE = 4  # PROT_EXEC
_DESCRIPTOR_COMMANDS = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC)
_WORKER_CALLS = (
    *("read", "write", "close", "fstat", "accept4", "connect", "shutdown", "recvfrom", "recvmsg", "sendto", "sendmsg"),
    *("getsockname", "getpeername", "getsockopt", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "poll"),
    *("munmap", "mremap", "brk", "madvise", "futex", "sched_yield", "membarrier", "getrandom"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "getpid", "gettid", "exit", "exit_group"),
)
_WORKER_CONDITIONS: dict[str, tuple[tuple[Argument, ...], ...]] = {
    "mmap": ((Argument(2, _PAGES_EXECUTABLE, 0),),),
    "mprotect": ((Argument(2, _PAGES_EXECUTABLE, 0),),),
    "socket": tuple(
        (family, kind, protocol)
        for family, kind, *rest in CONDITIONS["socket"].alternatives
        for protocol in rest
        if family.value in (INET, INET6) and kind.value == socket.SOCK_STREAM
    ),
    "socketpair": CONDITIONS["socketpair"].alternatives,  # an event loop wakes itself
    "setsockopt": CONDITIONS["setsockopt"].alternatives,
    "ioctl": ((Argument(1, 0xFFFFFFFF, termios.FIONBIO),),),
    "fcntl": tuple((Argument(1, 0xFFFFFFFF, command),) for command in _DESCRIPTOR_COMMANDS),
}
WORKER: tuple[Rule, ...] = (
    *(Rule(call) for call in _WORKER_CALLS),
    *(Rule(call, alternative) for call, alternatives in _WORKER_CONDITIONS.items() for alternative in alternatives),
)


def confinement(rules: Iterable[Rule]) -> Callable[[], None]:
    """A callable that filters the calling process; compiled now, so that nothing is opened when it is called."""
    program = compile_filter(rules)

    def confine() -> None:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        libc.apply_seccomp(program)

    return confine
