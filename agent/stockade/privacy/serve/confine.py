"""How the classifier gives up everything but thinking: user, capabilities, files, programs, sockets.

What it parses comes from sandboxes, and regular expressions and a network of 23 MB read all of it. It has one socket, on which it is asked
and answers; it can make no other, open no file, start no thread. Its threads exist before the filter does, and the filter holds them all.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import signal
import termios
from pathlib import Path

from stockade.sandbox import landlock, libc
from stockade.sandbox.conditions import Argument
from stockade.sandbox.filter import Rule, compile_filter

PR_SET_NO_NEW_PRIVS = 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _TSYNC = 1, 1
_EXECUTABLE = 4  # PROT_EXEC
_CALLS = (
    *("read", "write", "close", "fstat", "recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown", "getsockopt", "getsockname"),
    *("epoll_ctl", "epoll_wait", "epoll_pwait", "poll", "ppoll"),
    *("munmap", "mremap", "brk", "madvise", "futex", "membarrier", "getrandom", "rseq"),
    *("sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "getcpu"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "getrusage", "sysinfo"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "getpid", "gettid", "exit", "exit_group"),
    *("set_robust_list", "get_robust_list"),
)
_CONDITIONS: dict[str, tuple[tuple[Argument, ...], ...]] = {
    "mmap": ((Argument(2, _EXECUTABLE, 0),),),
    "mprotect": ((Argument(2, _EXECUTABLE, 0),),),
    "ioctl": ((Argument(1, 0xFFFFFFFF, termios.FIONBIO),),),
    "fcntl": tuple((Argument(1, 0xFFFFFFFF, command),) for command in (fcntl.F_GETFD, fcntl.F_GETFL, fcntl.F_SETFL)),
}
# CUDA speaks to its driver by ioctl, maps devices, and starts helper threads; which devices, Landlock says.
_GPU_CALLS = (
    "ioctl",
    "openat",
    "newfstatat",
    "clone",
    "clone3",
    "pread64",
    "lseek",
    "getdents64",
    "sched_setaffinity",
    "eventfd2",
    "pipe2",
)
_GPU_FILES = (
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    *(f"/dev/nvidia{number}" for number in range(16)),
    "/proc",
    "/sys",
)


def rules(*, gpu: bool) -> tuple[Rule, ...]:
    calls = (*_CALLS, *(_GPU_CALLS if gpu else ()))
    conditions = [Rule(call, alternative) for call, alternatives in _CONDITIONS.items() for alternative in alternatives]
    return (*(Rule(call) for call in calls), *conditions)


def drop(uid: int, *, gpu: bool) -> None:
    """For good. Raises OSError when any step fails: a half-dropped classifier must not read."""
    program = compile_filter(rules(gpu=gpu))
    ruleset = None
    if (version := landlock.abi()) > 0:
        version = min(version, landlock.NEWEST)
        ruleset = landlock.create(version)
        for path in _GPU_FILES if gpu else ():
            if Path(path).exists():
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
                landlock.allow(ruleset, descriptor, landlock.READ | landlock.Right.WRITE_FILE | landlock.Right.IOCTL_DEV, version)
                os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)  # of every thread: glibc sees to that
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    if ruleset is not None:
        landlock.restrict(ruleset, version)
        os.close(ruleset)
    if not gpu:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    _filter_all_threads(program)


def _filter_all_threads(program: bytes) -> None:
    """seccomp(2) with TSYNC, which gives the other threads no_new_privs too. They were there before: the model computes with them."""
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filtered = Program(len(program) // 8, ctypes.addressof(code))
    call = ctypes.CDLL(None, use_errno=True).syscall
    result = call(_SECCOMP[platform.machine()], _SET_MODE_FILTER, _TSYNC, ctypes.byref(filtered))
    if result != 0:  # a positive one is the thread that would not
        raise OSError(ctypes.get_errno(), f"seccomp filter of all threads: {result}")
