"""The end of a process that is not a child of this one: when, and with what status where the kernel says."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct

_GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO, _IOWR(0xFF, 11, struct pidfd_info) (include/uapi/linux/pidfd.h), of its first 64 bytes
_INFO = struct.Struct("<QQIIIIIIIIIIIi")  # mask, cgroupid, pid, tgid, ppid, eight ids, exit_code
_EXIT = 1 << 3  # PIDFD_INFO_EXIT: Linux 6.15, and once the process is reaped
_REAPED = 50  # looks, 20 ms apart


async def status(pidfd: int) -> int | None:
    """Until it ends. As a shell counts, 128 + N for signal N; None where it cannot be known."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
    for _ in range(_REAPED):
        if (found := _exit_code(pidfd)) is not None:
            return found >> 8 & 0xFF if not found & 0x7F else 128 + (found & 0x7F)
        await asyncio.sleep(0.02)
    return None


def _exit_code(pidfd: int) -> int | None:
    """As wait(2) has it. None: this kernel does not say, or nobody has reaped it yet."""
    buffer = bytearray(_INFO.pack(_EXIT, *[0] * 13))
    with contextlib.suppress(OSError):
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
        mask, *_, code = _INFO.unpack(buffer)
        return int(code) if mask & _EXIT else None
    return None
