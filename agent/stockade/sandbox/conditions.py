"""Conditions: of the allowed system calls, those that are let through with some arguments only, and with which.

A filter sees the six registers of a call and no memory. A call passes when one of its alternatives holds in every part; what a kernel
reads as 32 bits is compared as 32, so that nothing in the upper half of a register makes another value of it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Argument:
    """Holds when (argument & mask) == value."""

    index: int
    mask: int
    value: int


Alternative = tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """says: what the alternatives come to, for readers. otherwise: answers other than EPERM that libraries know what to do with; none of
    them fits what an alternative fits.
    """

    says: str
    alternatives: tuple[Alternative, ...]
    otherwise: tuple[tuple[int, Alternative], ...] = ()


_WORD = 0xFFFFFFFF
_NEW_NAMESPACE = 0x00000080 | 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000  # sched.h
_SET_ID = 0o6000
_KIND, _REGULAR, _FIFO, _SOCKET = 0o170000, 0o100000, 0o010000, 0o140000
_MAKES = os.O_CREAT | (os.O_TMPFILE & ~os.O_DIRECTORY)
_MODIFIERS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
FAMILIES = (UNIX, INET, INET6, NETLINK)
_STREAM, _DATAGRAM, _RAW, _SEQPACKET = 1, 2, 3, 5
_TCP, _UDP, _ROUTE = 6, 17, 0

# prctl(2), linux/prctl.h: about oneself, and taking rights away. Not among them: PR_SET_MM (another exe_file, another argv),
# PR_SET_PTRACER, PR_SET_SYSCALL_USER_DISPATCH, PR_SCHED_CORE, PR_SET_MEMORY_MERGE, PR_MCE_KILL, PR_SET_IO_FLUSHER.
_PRCTL = {
    "PDEATHSIG": (1, 2),
    "DUMPABLE": (3, 4),
    "KEEPCAPS": (7, 8),
    "NAME": (15, 16),
    "SECCOMP": (21, 22),
    "CAPBSET": (23, 24),
    "TSC": (25, 26),
    "GET_SECUREBITS": (27,),
    "TIMERSLACK": (29, 30),
    "CHILD_SUBREAPER": (36, 37),
    "NO_NEW_PRIVS": (38, 39),
    "GET_TID_ADDRESS": (40,),
    "THP_DISABLE": (41, 42),
    "CAP_AMBIENT": (47,),
    "SPECULATION_CTRL": (52, 53),
    "MDWE": (65, 66),
    "SET_VMA": (0x53564D41,),
    "GET_AUXV": (0x41555856,),
}

# Commands of a terminal (type 'T') that reach whoever is at it: TIOCSTI types into it, TIOCLINUX pastes and blanks, TIOCCONS takes the
# console's output, TIOCSETD gives it a line discipline, for which the kernel loads a driver.
_TERMINAL, _UPON_TERMINAL = 0x54, frozenset({0x12, 0x1C, 0x1D, 0x23})

_IP, _SOL_SOCKET, _IPV6, _SOL_NETLINK = 0, 1, 41, 270
_SOCKET_PROGRAMS = frozenset({26, 50, 51, 52})  # SO_ATTACH_FILTER, _BPF, _REUSEPORT_CBPF, _REUSEPORT_EBPF: code in the kernel
_TCP_ULP = 31  # another protocol in the place of TCP's own: tls, smc, mptcp, each a driver that the kernel loads


def _is(index: int, value: int, mask: int = _WORD) -> Argument:
    return Argument(index, mask, value)


def _other_than(values: frozenset[int], bits: int) -> Iterator[tuple[int, int]]:
    """(mask, value) pairs that together hold every number of so many bits but these: libseccomp compares an argument once in a rule."""

    def cover(value: int, left: int) -> Iterator[tuple[int, int]]:
        size = 1 << left
        if values.isdisjoint(range(value, value + size)):
            yield (1 << bits) - size, value
        elif left:
            yield from cover(value, left - 1)
            yield from cover(value + size // 2, left - 1)

    return cover(0, bits)


def _sockets() -> Iterator[Alternative]:
    kind = _WORD & ~_MODIFIERS
    for unix in (_STREAM, _DATAGRAM, _SEQPACKET):
        yield _is(0, UNIX), _is(1, unix, kind)
    for family in (INET, INET6):
        for type_, protocol in ((_STREAM, _TCP), (_DATAGRAM, _UDP)):
            for stated in (0, protocol):
                yield _is(0, family), _is(1, type_, kind), _is(2, stated)
    for type_ in (_RAW, _DATAGRAM):
        yield _is(0, NETLINK), _is(1, type_, kind), _is(2, _ROUTE)


def _other_sockets() -> Iterator[tuple[int, Alternative]]:
    """As a kernel answers that was built without them: resolvers, libaudit and TLS libraries go on without."""
    for mask, value in _other_than(frozenset(FAMILIES), 6):
        yield errno.EAFNOSUPPORT, (_is(0, value, _WORD & ~0x3F | mask),)
    for mask, value in _other_than(frozenset({_ROUTE}), 5):
        yield errno.EPROTONOSUPPORT, (_is(0, NETLINK), _is(2, value, _WORD & ~0x1F | mask))


def _commands() -> Iterator[Alternative]:
    for mask, value in _other_than(frozenset({_TERMINAL}), 8):
        yield (_is(1, value << 8, mask << 8),)
    for mask, value in _other_than(_UPON_TERMINAL, 8):
        yield (_is(1, _TERMINAL << 8 | value, 0xFF00 | mask),)


def _options() -> Iterator[Alternative]:
    for level in (_IP, _UDP, _IPV6, _SOL_NETLINK):
        yield (_is(1, level),)
    for mask, value in _other_than(_SOCKET_PROGRAMS, 7):
        yield _is(1, _SOL_SOCKET), _is(2, value, _WORD & ~0x7F | mask)
    for mask, value in _other_than(frozenset({_TCP_ULP}), 6):
        yield _is(1, _TCP), _is(2, value, _WORD & ~0x3F | mask)


def _mode(index: int) -> Condition:
    return Condition("without set-uid and set-gid, which would be the owner's on the host", ((_is(index, 0, _SET_ID),),))


def _opening(flags: int) -> Condition:
    # the mode counts only beside O_CREAT or O_TMPFILE: without them the register holds whatever it held
    return Condition("nothing new that is set-uid or set-gid", ((_is(flags, 0, _MAKES),), (_is(flags + 1, 0, _SET_ID),)))


def _node(index: int) -> Condition:
    kinds = (0, _REGULAR, _FIFO, _SOCKET)
    return Condition("no devices, no set-uid, no set-gid", tuple((_is(index, kind, _KIND | _SET_ID),) for kind in kinds))


CONDITIONS: dict[str, Condition] = {
    "clone": Condition("no new namespace", ((_is(0, 0, _NEW_NAMESPACE),),)),
    "open": _opening(1),
    "openat": _opening(2),
    "creat": _mode(1),
    "chmod": _mode(1),
    "fchmod": _mode(1),
    "fchmodat": _mode(2),
    "mknod": _node(1),
    "mknodat": _node(2),
    "socket": Condition("UNIX; INET and INET6, TCP and UDP; NETLINK_ROUTE", tuple(_sockets()), tuple(_other_sockets())),
    "socketpair": Condition("UNIX", ((_is(0, UNIX),),)),
    "setsockopt": Condition("of IP, IPv6, TCP, UDP, netlink and the socket itself; not TCP_ULP, not SO_ATTACH_…", tuple(_options())),
    "ioctl": Condition("not TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD", tuple(_commands())),
    "prctl": Condition("only PR_… of " + ", ".join(_PRCTL), tuple((_is(0, option),) for options in _PRCTL.values() for option in options)),
    "personality": Condition("Linux's own, or asking which", ((_is(0, 0),), (_is(0, _WORD),))),
    "seccomp": Condition("no listener: it would answer the calls of others", ((_is(0, 0),), (_is(0, 1), _is(1, 0, 8)), (_is(0, 2),))),
}
