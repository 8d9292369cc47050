"""The device program of a sandbox: which device files it may open, whatever its view shows. No node can be made.

Assembled here, not compiled from bpf/: what it compares with is each sandbox's own, and cgroup device programs of 6.1 may not call the
helpers by which the others find their sandbox. Refusals reach the agent through the common event ring (struct event in bpf/include/abi.h),
without the process: those kernels do not tell this type of program who is asking.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from stockade.kernel.abi import Event, EventType

PROGRAM_TYPE, ATTACH_TYPE = 15, 6  # BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE
MKNOD, READ, WRITE = 1, 2, 4
_CHAR = 2  # BPF_DEVCG_DEV_CHAR
_KTIME_GET_NS, _RINGBUF_OUTPUT = 5, 130


@dataclass(frozen=True, slots=True)
class Device:
    """A character device; minor None: all of them."""

    major: int
    minor: int | None = None


# null, zero, full, random, urandom; tty and ptmx; the slaves of pseudo-terminals (Documentation/admin-guide/devices.txt).
SAFE = (
    *(Device(1, minor) for minor in (3, 5, 7, 8, 9)),
    *(Device(5, 0), Device(5, 2)),
    *(Device(major) for major in range(136, 144)),
)


def program(devices: Iterable[Device], sandbox: int, events: int) -> bytes:
    """Instructions that let through reading and writing these devices, and tell the ring (descriptor `events`) of all else."""
    code = [
        _op(0x61, 6, 1, 0),  # r6 = ctx->access_type: what is asked << 16 | what kind of node
        _op(0x61, 7, 1, 4),  # r7 = ctx->major
        _op(0x61, 8, 1, 8),  # r8 = ctx->minor
    ]
    checks = b"".join(_passes(device) for device in devices)
    asked = [
        _op(0xBF, 2, 6),  # r2 = r6
        _op(0x57, 2, value=0xFFFF),  # r2 &= 0xffff
        _op(0x55, 2, offset=3 + len(checks) // 8, value=_CHAR),  # not a character device: refused
        _op(0xBF, 2, 6),  # r2 = r6
        _op(0x57, 2, value=MKNOD << 16),
        _op(0x55, 2, offset=len(checks) // 8, value=0),  # a node is to be made: refused
    ]
    return b"".join([*code, *asked, checks, _refuse(sandbox, events)])


def _passes(device: Device) -> bytes:
    """Return 1 for this device; fall through for another."""
    leave = [_op(0xB7, 0, value=1), _op(0x95)]  # r0 = 1; exit
    if device.minor is not None:
        leave.insert(0, _op(0x55, 8, offset=2, value=device.minor))
    return b"".join([_op(0x55, 7, offset=len(leave), value=device.major), *leave])


def _refuse(sandbox: int, events: int) -> bytes:
    """Write a struct event on the stack: major in `port`, minor in `name`, what was asked and the kind of node in `protocol`."""
    size = Event.LAYOUT.size
    return b"".join(
        [
            *(_op(0x7A, 10, offset=-at) for at in range(8, size + 8, 8)),  # all of it is 0
            _op(0x72, 10, offset=-size, value=EventType.DEVICE),
            _op(0x6B, 10, 7, -size + 4),
            _op(0xBF, 2, 6),
            _op(0x77, 2, value=16),  # r2 >>= 16: what was asked
            _op(0x57, 6, value=0xFF),
            _op(0x67, 6, value=8),
            _op(0x4F, 2, 6),  # r2 |= kind << 8
            _op(0x6B, 10, 2, -size + 6),
            _op(0x62, 10, offset=-size + 8, value=sandbox),
            _op(0x63, 10, 8, -size + 20),
            _op(0x85, value=_KTIME_GET_NS),
            _op(0x7B, 10, 0, -size + 32),
            _op(0x18, 1, 1, value=events) + _op(0),  # r1 = the ring: BPF_PSEUDO_MAP_FD
            _op(0xBF, 2, 10),
            _op(0x07, 2, value=-size),
            _op(0xB7, 3, value=size),
            _op(0xB7, 4),
            _op(0x85, value=_RINGBUF_OUTPUT),
            _op(0xB7, 0),
            _op(0x95),  # return 0: EPERM
        ]
    )


def _op(opcode: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """struct bpf_insn."""
    return struct.pack("<BBhi", opcode, source << 4 | to, offset, value)
