"""How a worker gives up what it was born with: descriptors, uid, capabilities, core dumps, new processes.

The order matters: everything the worker will ever read is read before (`worker.prepare`), because afterwards it may not even see the
interpreter's own files: a pyenv below a 0700 home is unreadable for its uid. What the kernel can refuse beyond this (Landlock, seccomp)
comes in as the `confine` callable of `Worker.fork`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
DESCRIPTORS = 16384

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def detach(keep: int) -> None:
    """Right after fork: no descriptor of the agent but `keep` and stderr; signals of the terminal are the agent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.closerange(3, keep)
    os.closerange(keep + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def drop(uid: int, gid: int) -> None:
    """Become the worker's own user for good. Raises OSError when any step fails: a half-dropped worker must not serve."""
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0)):
        resource.setrlimit(limit, (value, value))
    hard = min(DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)  # leaving uid 0 clears every capability set
    elif (os.getuid(), os.getgid()) != (uid, gid):
        raise PermissionError(f"a worker for uid {uid} can only be forked by root or by that user")
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_DUMPABLE, 0)
    # After setresuid, which clears it. A second net only: an agent that died before this line is noticed by the end of the channel.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
