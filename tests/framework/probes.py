"""What this machine must have for a test to mean anything. Each probe tries the thing itself and returns why not, or None."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import struct
from pathlib import Path

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _CGROUP_SOCK_ADDR, _CONNECT4 = 5, 18, 10


def root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


def cgroup2() -> str | None:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return None if any(" - cgroup2 " in line for line in mounts) else "no cgroup2 in /proc/self/mountinfo"


def bpf() -> str | None:
    """Loads `return 1` as a connect4 program, the type on which every verdict stands."""
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        return f"the number of bpf(2) on {os.uname().machine} is not known here"
    program = ctypes.create_string_buffer(struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0), 16)
    license_ = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "<IIQQIIQII16sII", _CGROUP_SOCK_ADDR, 2, ctypes.addressof(program), ctypes.addressof(license_), 0, 0, 0, 0, 0, b"", 0, _CONNECT4
    )
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(number, _PROG_LOAD, attributes, len(attributes))
    if fd < 0:
        return f"BPF_PROG_LOAD of a connect4 program answers {errno.errorcode.get(ctypes.get_errno(), '?')}"
    os.close(fd)
    return None


def namespaces() -> str | None:
    return None if shutil.which("ip") else "no ip(8): apt-get install iproute2"


@functools.cache
def governing() -> str | None:
    """All that `stockade run` itself stands on."""
    return root() or cgroup2() or bpf() or namespaces()
