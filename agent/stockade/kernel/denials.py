"""What the kernel's audit says of Landlock: which domain refused, which right was missing, on what (Documentation/security/landlock.rst).

Only listens, on the group that every reader may join (AUDIT_NLGRP_READLOG): it is no audit daemon and sets nothing. The audit is one for
the machine; where that is off the kernel says nothing. It says less than happened: it drops what comes faster than it can tell, and so
does this socket. What was refused is counted exactly at the end of calls (refusals.py); which layer refused is told only here.

A path or a name in a message is the sandbox's. The kernel writes one that could end a field (a space, a quote, a control character) in
hexadecimal, so the first field of a name is the kernel's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stockade.kernel.abi import SCRIPT_PATH

ACCESS, DOMAIN = 1423, 1424  # AUDIT_LANDLOCK_*
_AUDIT, _GET = 9, 1000  # NETLINK_AUDIT, AUDIT_GET
_ADD_MEMBERSHIP, _SOL_NETLINK, _READLOG = 1, 270, 1
_ATTACH_FILTER, _RCVBUFFORCE = 26, 33
_HEADER = struct.Struct("=IHHII")
_ROOM = 1 << 20  # octets that wait for the next turn: some 1,500 messages, which take 10 ms to read
_MESSAGE = 16384  # MAX_AUDIT_MESSAGE_LENGTH is 8970
_MOST = 4096  # messages in one turn, while others go on coming
_INITIAL = 0xEFFFFFFC  # PROC_PID_INIT_INO: the PID namespace in whose numbers the kernel's audit speaks

_EVENT = re.compile(rb"audit\([0-9]{1,20}\.[0-9]{1,9}:[0-9]{1,20}\): domain=([0-9a-f]{1,16})((?: .*)?)", re.DOTALL)
_BLOCKERS = re.compile(rb"[a-z_]{1,32}(?:\.[a-z_]{1,32})?(?:,[a-z_]{1,32}(?:\.[a-z_]{1,32})?){0,31}")
_NUMBER = re.compile(rb"[0-9]{1,10}")
_LONG = b"<too_long>"  # in the place of a path; each that there is begins with a slash


@dataclass(frozen=True, slots=True)
class Denial:
    """blockers: each right that was missing (`fs.write_file`, `scope.signal`). path: on what, as the sandbox sees it; b"" if not told."""

    domain: int
    blockers: tuple[str, ...]
    path: bytes = b""


@dataclass(frozen=True, slots=True)
class Domain:
    """Told at its first denial. pid, user: who restricted itself so, in the machine's numbers, when it did."""

    domain: int
    pid: int
    user: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Nobody is in the domain any more."""

    domain: int


Told = Denial | Domain | Ended


def parse(kind: int, said: bytes) -> Told:
    """One message, without its header. Raises ValueError for what is none of the two kinds, or not as the kernel writes it."""
    found = _EVENT.fullmatch(said.rstrip(b"\0\n"))
    if found is None or kind not in (ACCESS, DOMAIN):
        raise ValueError("no message about Landlock")
    domain, fields = int(found[1], 16), _fields(found[2])
    if kind == ACCESS:
        blockers = fields.get(b"blockers", b"")
        if not _BLOCKERS.fullmatch(blockers):
            raise ValueError("no blockers")
        path = _untrusted(fields.get(b"path", fields.get(b"name", b"")))
        return Denial(domain, tuple(blockers.decode("ascii").split(",")), b"" if path == _LONG else path[: SCRIPT_PATH - 1])
    status = fields.get(b"status")
    if status == b"deallocated":
        return Ended(domain)
    pid, user = fields.get(b"pid", b""), fields.get(b"uid", b"")
    if status != b"allocated" or not _NUMBER.fullmatch(pid) or not _NUMBER.fullmatch(user):
        raise ValueError("a domain of nobody")
    return Domain(domain, int(pid), int(user))


def _fields(said: bytes) -> dict[bytes, bytes]:
    """Each by its name, the first of a name: what follows it may be another's."""
    found: dict[bytes, bytes] = {}
    for word in said.split(b" "):
        name, sign, value = word.partition(b"=")
        if sign:
            found.setdefault(name, value)
    return found


def _untrusted(value: bytes) -> bytes:
    """audit_log_untrustedstring(): in quotes, or each octet as two digits."""
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        return value[1:-1]
    return bytes.fromhex(value.decode("ascii"))


class Denials:
    """The socket. Nothing of it reaches the loop before it asks: a sandbox that is refused a hundred thousand times wakes nobody.

    missed: how often more was said than there was room for. unread: messages that nobody could read.
    """

    def __init__(self) -> None:
        """Raises OSError: no right to (CAP_AUDIT_READ), no audit in this kernel, or another namespace than the machine's."""
        self.missed = self.unread = 0
        if Path("/proc/self/ns/pid").stat().st_ino != _INITIAL:
            raise OSError(errno.ENOTSUP, "the kernel's audit speaks of processes by other numbers than those of this PID namespace")
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _AUDIT)
        try:
            _only_landlock(self._socket)
            with contextlib.suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _ROOM)
            self._socket.bind((0, 0))  # or it is left out, as if it were the kernel's own
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _READLOG)
        except OSError:
            self._socket.close()
            raise

    def take(self) -> Iterator[Told]:
        """What was said since the last time, in its order."""
        for _ in range(_MOST):
            try:
                said, (sender, _) = self._socket.recvfrom(_MESSAGE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.missed += 1
                continue
            try:
                if sender:
                    raise ValueError("not from the kernel")
                told = parse(_HEADER.unpack_from(said)[1], said[_HEADER.size :])
            except (ValueError, struct.error):
                self.unread += 1
                continue
            yield told

    def close(self) -> None:
        self._socket.close()


def _only_landlock(listening: socket.socket) -> None:
    """A filter (classic BPF): what else the machine's audit tells of costs nothing here, and takes no room."""
    first, second = socket.htons(ACCESS), socket.htons(DOMAIN)  # it loads in network order
    program = b"".join(
        struct.pack("=HBBI", *step)
        for step in (
            (0x28, 0, 0, 4),  # A = nlmsg_type
            (0x15, 1, 0, first),
            (0x15, 0, 1, second),
            (0x06, 0, 0, 0xFFFFFFFF),  # all of it
            (0x06, 0, 0, 0),
        )
    )
    room = ctypes.create_string_buffer(program, len(program))
    listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", 5, ctypes.addressof(room)))


def enabled() -> bool:
    """Whether the machine's audit is on. For doctor: it takes CAP_AUDIT_CONTROL, which an agent does without. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _AUDIT) as kernel:
        kernel.settimeout(1.0)
        kernel.send(_HEADER.pack(_HEADER.size, _GET, 1, 1, 0))
        said = kernel.recv(_MESSAGE)
    if _HEADER.unpack_from(said)[1] != _GET:
        number = -struct.unpack_from("=i", said, _HEADER.size)[0]
        raise OSError(number, os.strerror(number))
    on: int = struct.unpack_from("=II", said, _HEADER.size)[1]  # struct audit_status: mask, enabled
    return on != 0
