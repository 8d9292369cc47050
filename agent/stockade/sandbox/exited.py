"""What the kernel says of a process that is not a child of this one: its end and its status, and the cgroup it is in."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
import struct
from pathlib import Path

_GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO, _IOWR(0xFF, 11, struct pidfd_info) (include/uapi/linux/pidfd.h), of its first 64 bytes
_INFO = struct.Struct("<QQIIIIIIIIIIIi")  # mask, cgroupid, pid, tgid, ppid, eight ids, exit_code
_CGROUP = 1 << 2  # PIDFD_INFO_CGROUPID: Linux 6.13
_WHERE = _INFO.pack(_CGROUP, *[0] * 13)
_PLACE = struct.Struct("<QQ")  # how its answer begins
_EXIT = 1 << 3  # PIDFD_INFO_EXIT: Linux 6.15, and once the process is reaped
_LOOKS = 50  # 20 ms apart


async def status(pidfd: int, pid: int) -> int | None:
    """Until it ends. pidfd and pid: of the same process. As a shell counts, 128 + N for signal N; None where it cannot be known."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
    for _ in range(_LOOKS):
        if (found := at_once(pidfd, pid)) is not None:
            return found
        await asyncio.sleep(0.02)
    return None


def at_once(pidfd: int, pid: int) -> int | None:
    """The same of one that has ended."""
    found = _exit_code(pidfd, pid)
    if found is None:
        return None
    return found >> 8 & 0xFF if not found & 0x7F else 128 + (found & 0x7F)


def cgroup(pidfd: int) -> int | None:
    """The id of the cgroup that it is in, in the v2 hierarchy. None: it has ended, or this kernel does not say."""
    buffer = bytearray(_WHERE)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError:
        return None
    mask, found = _PLACE.unpack_from(buffer)
    return int(found) if mask & _CGROUP else None


def _exit_code(pidfd: int, pid: int) -> int | None:
    """As wait(2) has it: of one that is reaped, which newer kernels tell, or that is not yet. None: it is, and this kernel does not say."""
    buffer = bytearray(_INFO.pack(_EXIT, *[0] * 13))
    with contextlib.suppress(OSError):
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
        mask, *_, code = _INFO.unpack(buffer)
        if mask & _EXIT:
            return int(code)
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        signal.pidfd_send_signal(pidfd, 0)  # not reaped, so that was this process's own line
        return int(fields[49]) if fields[0] == "Z" else None  # exit_code, field 52 of proc_pid_stat(5)
    return None
