"""Who listens on a port inside: the socket as the kernel's tables name it, and a process of the sandbox that holds it.

For the record alone, and bounded: a sandbox with very many descriptors is not searched to the end. Nothing is decided by it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

LINKS = 20_000  # descriptors that are looked at, some µs each
_LISTEN = "0A"  # TCP_LISTEN
_TABLES = {  # what a connection to the family's loopback reaches, the exact address first (proc_pid_net(5): addresses in memory order)
    "tcp": ("0100007F", "00000000"),
    "tcp6": ("0" * 16 + "FFFF00000100007F", "0" * 24 + "01000000", "0" * 32),
}


def socket_of(port: int, network: Path = Path("/proc/thread-self/net")) -> int | None:
    """The inode of the socket that a connection to a port of loopback reaches, IPv4 first. Raises OSError."""
    wanted = f"{port:04X}"
    for table, addresses in _TABLES.items():
        found: dict[str, int] = {}
        with (network / table).open() as lines:
            next(lines)
            for fields in map(str.split, lines):
                if fields[3] != _LISTEN:  # the listening ones stand first (tcp_seq_start)
                    break
                address, _, at = fields[1].partition(":")
                if at == wanted:
                    found.setdefault(address, int(fields[9]))
        for address in addresses:
            if address in found:
                return found[address]
    return None


def holder_of(inode: int, processes: Iterable[int]) -> int | None:
    """A process that has this socket open."""
    wanted, looked = f"socket:[{inode}]", 0
    for pid in processes:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:  # it ended, or closed what was listed
            for descriptor in descriptors:  # as they are read: one process may have a million
                looked += 1
                if looked > LINKS:
                    return None
                if os.readlink(descriptor.path) == wanted:  # noqa: PTH115 (a text, not a path)
                    return pid
    return None
