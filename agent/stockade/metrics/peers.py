"""Who is at the other end of a connection to this machine: whether it is one of Stockade's own users, through whom a sandbox speaks.

A policy may let a sandbox reach a service on this machine's loopback, and its proxy worker then dials as it is told. Nobody who dials as
Stockade's users may read what is counted here, of whichever sandbox, whatever a policy says.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from stockade.service.settings import USER_BASE

USERS = 1_000_000  # above the first of Stockade's own: workers, classifiers, sandboxes
_NETWORK = Path("/proc/thread-self/net")


def governed(connection: socket.socket, network: Path = _NETWORK) -> bool:
    """Whether the other end is on this machine and belongs to Stockade's users. Raises OSError when the kernel's tables cannot be read."""
    try:
        here, there = connection.getsockname(), connection.getpeername()
    except OSError:  # it is gone
        return True
    for table in ("tcp", "tcp6"):
        wanted = set(_spellings(there, table)), set(_spellings(here, table))
        with (network / table).open() as lines:
            next(lines)
            for fields in map(str.split, lines):
                if fields[1] in wanted[0] and fields[2] in wanted[1]:
                    return USER_BASE <= int(fields[7]) < USER_BASE + USERS
    return False


def _spellings(end: tuple[object, ...], table: str) -> Iterator[str]:
    """As proc_pid_net(5) spells an end: each 32 bits of the address in the machine's byte order, and the port."""
    address, port = ipaddress.ip_address(str(end[0]).partition("%")[0]), int(str(end[1]))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if table == "tcp" and isinstance(address, ipaddress.IPv4Address):
        yield f"{_words(address.packed)}:{port:04X}"
    if table == "tcp6":
        packed = address.packed if isinstance(address, ipaddress.IPv6Address) else bytes(10) + b"\xff\xff" + address.packed
        yield f"{_words(packed)}:{port:04X}"


def _words(packed: bytes) -> str:
    words = (packed[place : place + 4] for place in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
