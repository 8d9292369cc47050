"""Makes system calls by number and prints what became of each: {name: errno}, 0 for one that was answered."""

from __future__ import annotations

import ctypes
import json
import sys

CALLS = {
    "io_setup": (206, 1, bytes(8)),
    "io_destroy": (207, 0),
    "mq_unlink": (241, b"nothing"),
    "socketpair": (53, 1, 1, 0, bytes(8)),
    "unshare": (272, 0x10000000),
    "mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0),
    "ptrace": (101, 0, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "io_uring_setup": (425, 1, bytes(120)),
    "clone3": (435, 0, 0),
    "memfd_create": (319, b"x", 0),
    "getpid": (39,),
    "tiocsti": (16, 0, 0x5412, b"x"),
    "packet": (41, 17, 3, 0),
    "newest": (5000,),
}

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(number: int, *arguments: int | bytes) -> int:
    words = [word if isinstance(word, bytes) else ctypes.c_long(word) for word in arguments]
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *words) < 0 else 0


print(json.dumps({name: call(*CALLS[name]) for name in sys.argv[1:]}))
