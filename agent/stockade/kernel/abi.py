"""The structs that cross between bpf/ and Python, written once here and once in bpf/include/abi.h; a test holds the two together.

Imports nothing but the standard library: the workers, which have no bpf(), decode ORIGIN with it.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

ORIGIN_OPTION = 0x57AD  # getsockopt(fd, SOL_SOCKET, ORIGIN_OPTION): answered by bpf/origin.c on accepted sockets

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Verdict(IntEnum):
    """What the kernel does with a connect()."""

    DENY = 0
    RELAY = 1
    INSPECT = 2
    LOCAL = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """Who opened a connection, and to where, as the kernel recorded it before the SYN.

    sandbox: number of the sandbox. identity: number of the binary (or interpreter and script). exec_id: one per execve in a sandbox.
    name: index of the synthetic address dialled, 0 for a literal address. port: host order. generation: the policy that gave the verdict.
    """

    sandbox: int
    identity: int
    exec_id: int
    pid: int
    name: int
    generation: int
    port: int
    verdict: Verdict
    address: Address
    cookie: int

    LAYOUT = struct.Struct("<IIQIIIHBB16sQ")  # struct origin in bpf/include/abi.h

    @classmethod
    def decode(cls, data: bytes) -> Origin:
        """Raises ValueError when data is not one whole struct origin."""
        if len(data) != cls.LAYOUT.size:
            raise ValueError(f"struct origin has {cls.LAYOUT.size} bytes, not {len(data)}")
        sandbox, identity, exec_id, pid, name, generation, port, family, verdict, raw, cookie = cls.LAYOUT.unpack(data)
        address = ipaddress.IPv4Address(raw[:4]) if family == 4 else ipaddress.IPv6Address(raw)
        return cls(sandbox, identity, exec_id, pid, name, generation, port, Verdict(verdict), address, cookie)

    @classmethod
    def of(cls, connection: socket.socket) -> Origin:
        """Ask the kernel, once: the answer is deleted as it is read. Raises OSError when it knows nothing of this connection."""
        return cls.decode(connection.getsockopt(socket.SOL_SOCKET, ORIGIN_OPTION, cls.LAYOUT.size))
