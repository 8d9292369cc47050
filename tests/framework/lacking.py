"""Runs a command on this kernel as if it were an older one: system calls that it lacks answer ENOSYS.

python lacking.py CALL… -- COMMAND…
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS = 3  # SCMP_FLTATR_CTL_NNP: root needs none, and the command must find itself as it would be


def lacking(*calls: str) -> list[str | Path]:
    """What to start a command through."""
    return [sys.executable, Path(__file__), *calls, "--"]


def main() -> None:
    calls, command = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(lib.seccomp_init(_ALLOW))
    if lib.seccomp_attr_set(context, _NO_NEW_PRIVS, 0):
        raise OSError("seccomp_attr_set")
    for call in calls:
        number = lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0 or lib.seccomp_rule_add(context, _ERRNO | errno.ENOSYS, number, 0):
            raise OSError(f"no rule on {call}")
    if lib.seccomp_load(context):
        raise OSError("seccomp_load")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
