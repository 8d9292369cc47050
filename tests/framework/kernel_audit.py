"""The machine's audit, switched on for as long as a test looks, and then as it was. `auditctl -e`, without the program (audit(8)).

What cannot be put back: a kernel whose audit was on once gives every process that is born later a context for it, until the next boot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct("=IHHII")
_STATUS = struct.Struct("=11I")  # struct audit_status: mask, enabled, …
_AUDIT, _GET, _SET, _ENABLED = 9, 1000, 1001, 1
OFF, ON = 0, 1
_LOCK = Path(tempfile.gettempdir()) / "stockade-tests-audit.lock"


def _ask(kind: int, flags: int, said: bytes) -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _AUDIT) as kernel:
        kernel.settimeout(5.0)
        kernel.send(_HEADER.pack(_HEADER.size + len(said), kind, flags, 1, 0) + said)
        answer = kernel.recv(65536)
    if _HEADER.unpack_from(answer)[1] == 2 and (error := -struct.unpack_from("=i", answer, _HEADER.size)[0]):
        raise OSError(error, os.strerror(error))
    return answer[_HEADER.size :]


def status() -> int:
    """OFF, ON, or 2: on, and nobody may change it. Raises OSError."""
    return int(_STATUS.unpack_from(_ask(_GET, 1, b""))[1])


def switch(enabled: int) -> None:
    _ask(_SET, 1 | 4, _STATUS.pack(_ENABLED, enabled, *([0] * 9)))


@contextlib.contextmanager
def alone() -> Iterator[int]:
    """No other test of this machine switches it meanwhile, in whatever run; its status. Raises OSError where this process may not ask."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield status()


@contextlib.contextmanager
def switched_on() -> Iterator[None]:
    """For whoever is alone with it. Others that run meanwhile are told of too: keep it short. Raises OSError."""
    before = status()
    if before != OFF:
        yield
        return
    switch(ON)
    try:
        yield
    finally:
        switch(OFF)
