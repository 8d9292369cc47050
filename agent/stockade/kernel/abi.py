"""The structs that cross between bpf/ and Python, written once here and once in bpf/include/abi.h; a test holds the two together.

Imports nothing but the standard library: the workers, which have no bpf(), decode ORIGIN with it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

ORIGIN_OPTION = 0x57AD  # getsockopt(fd, SOL_SOCKET, ORIGIN_OPTION): answered by bpf/origin.c on accepted sockets
SPEAKER_OPTION = 0x57AE  # the same for who else has spoken on it

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Verdict(IntEnum):
    """What the kernel does with a connect()."""

    DENY = 0
    RELAY = 1
    INSPECT = 2
    LOCAL = 3
    RESOLVE = 4  # port 53: the agent's resolver, where the query is what is decided
    KEPT = 5  # a connection of a container from before it was governed


class Why(IntEnum):
    """enum why: what the kernel found; POLICY means that the verdicts, or their silence, decided."""

    POLICY = 0
    UNTAGGED = 1
    EXE_MISMATCH = 2
    AGENT_ADDRESS = 3
    PROTOCOL = 4
    BIND = 5
    UNLISTED = 6
    CHANGED = 7
    ANONYMOUS = 8
    LOADER_VARIABLE = 9
    ENV_UNREADABLE = 10
    MAP_FULL = 11
    PACKET = 12
    WRITABLE = 13


class EventType(IntEnum):
    EXEC = 1
    CONNECT = 2
    DATAGRAM = 3
    BIND = 4
    SOCKET = 5
    PACKET = 6
    MAPPING = 7
    DEVICE = 8
    INBOUND = 9


class SandboxFlag(IntFlag):
    NONE = 0
    OBSERVE = 1
    UNLISTED_RUNS = 2
    SEALED = 4
    CONTAINED = 8
    SHARED = 16


class BinaryFlag(IntFlag):
    NONE = 0
    RUNS = 1
    NETWORK = 2
    CARRIES = 4
    LOADER = 8
    WEAK = 16
    ISOLATED = 32


FAILURES = (
    "task_tag",
    "sk_storage",
    "origin",
    "asker",
    "event",
    "signal",
    "scratch",
    "exe",
    "cb_flags",
    "quota",
    "dropped",
    "environment",
    "refusal",
    "open",
)  # enum failure, in order

SYNTHETIC_V4 = ipaddress.IPv4Network("198.18.0.0/15")
SYNTHETIC_V6 = ipaddress.IPv6Network("fd57:a11d::/64")
TASK_WEAK = 2  # enum task_flag
IDENTITY_INBOUND = 0xFFFFFFFE
NAME_LOCALHOST = 1  # the "name" of the host's loopback services in verdict keys
SCRIPT_PATH = 256
OPEN_UNKNOWN, OPEN_ROOM, OPEN_STEPS, OPENS_APART = 0, 0xFFFFFFFF, 64, 4096
QUOTAS = 8192, 8192, 16384  # of tasks, origins and conversations in one sandbox (bpf/include/maps.h)
REFUSED_CALLS, REFUSALS_APART, REFUSAL_ROOM = 512, 64, 65535

SANDBOX = struct.Struct("<IIIIII")
BINARY_KEY = struct.Struct("<IIQII")
BINARY = struct.Struct("<IIqqII")
SCRIPT_KEY = struct.Struct(f"<II{SCRIPT_PATH}s")
SCRIPT = struct.Struct("<IIII")
TASK = struct.Struct("<IIQQQIIII")
VERDICT_KEY = struct.Struct("<IIIII")
LITERAL_KEY = struct.Struct("<IIIIHBB16s")
SERVICE_KEY = struct.Struct("<III")
VARIABLE_KEY = struct.Struct("<II32s")
ASKER_KEY = struct.Struct("<IHBB")
ASKER = struct.Struct("<IIQ")
USAGE = struct.Struct("<QQQ")
REFUSAL_KEY = struct.Struct(f"<IIQIHH{SCRIPT_PATH}s")
REFUSAL = struct.Struct("<QQII")
OPEN_KEY = struct.Struct("<IIII")
SOCKET_STATE = struct.Struct("<IIQIIIHBB16sQHB5s")


@dataclass(frozen=True, slots=True)
class Network:
    """Where the agent listens on a sandbox's lo, and the ranges whose addresses stand for names. Compiled into the programs."""

    v4: ipaddress.IPv4Network = SYNTHETIC_V4
    v6: ipaddress.IPv6Network = SYNTHETIC_V6
    inspect_port: int = 15001
    relay_port: int = 15002

    @property
    def agent4(self) -> ipaddress.IPv4Address:
        return self.v4.network_address + 1

    @property
    def agent6(self) -> ipaddress.IPv6Address:
        return self.v6.network_address + 1

    def defines(self) -> dict[str, int]:
        """The constants bpf/ is compiled with."""
        high = int(self.v6.network_address) >> 64
        return {
            "AGENT_V4": int(self.agent4),
            "SYNTHETIC_V4": int(self.v4.network_address),
            "SYNTHETIC_V4_MASK": int(self.v4.netmask),
            "SYNTHETIC_V6_0": high >> 32,
            "SYNTHETIC_V6_1": high & 0xFFFFFFFF,
            "INSPECT_PORT": self.inspect_port,
            "RELAY_PORT": self.relay_port,
            "ORIGIN_OPTION": ORIGIN_OPTION,
            "SPEAKER_OPTION": SPEAKER_OPTION,
            "NAME_LOCALHOST": NAME_LOCALHOST,
            "NR_CPUS": os.sysconf("SC_NPROCESSORS_CONF"),  # those that may ever run: exec ids are numbered per CPU
        }


@dataclass(frozen=True, slots=True)
class FileFacts:
    """An open file as BPF sees it; ctime in seconds and ns."""

    ino: int
    dev: int
    generation: int
    size: int
    ctime_sec: int
    ctime_nsec: int
    nlink: int

    LAYOUT = struct.Struct("<QIIqqII")

    @classmethod
    def decode(cls, data: bytes) -> FileFacts:
        """Raises ValueError when data is of another length."""
        if len(data) != cls.LAYOUT.size:
            raise ValueError(f"the facts of a file have {cls.LAYOUT.size} bytes, not {len(data)}")
        ino, dev, generation, size, ctime_sec, ctime_nsec, nlink = cls.LAYOUT.unpack(data)
        return cls(ino, dev, generation, size, ctime_sec, ctime_nsec, nlink)


def address_of(family: int, raw: bytes) -> Address | None:
    """family 4 or 6 with 16 bytes in network order; None for anything else."""
    if family == 4:
        return ipaddress.IPv4Address(raw[:4])
    return ipaddress.IPv6Address(raw) if family == 6 else None


@dataclass(frozen=True, slots=True)
class Event:
    """struct event, and what followed: the path of an exec or a mapped file, or the start of a packet.

    variable: the loader variable that an exec was refused for.
    """

    type: EventType
    verdict: Verdict
    why: Why
    port: int
    protocol: int
    sandbox: int
    generation: int
    identity: int
    name: int
    pid: int
    time: int
    exec_id: int
    parent_exec_id: int
    cookie: int
    address: Address | None
    tail: bytes
    variable: str = ""

    LAYOUT = struct.Struct("<BBBBHHIIIIIIQQQQ16sQII")

    @classmethod
    def decode(cls, data: bytes) -> Event:
        """Raises ValueError when data is shorter than an event or names an unknown type."""
        if len(data) < cls.LAYOUT.size:
            raise ValueError(f"struct event has {cls.LAYOUT.size} bytes, not {len(data)}")
        (
            kind,
            verdict,
            why,
            family,
            port,
            protocol,
            sandbox,
            generation,
            identity,
            name,
            pid,
            size,
            time,
            exec_id,
            parent,
            cookie,
            raw,
            *_,
        ) = cls.LAYOUT.unpack_from(data)
        tail = data[cls.LAYOUT.size : cls.LAYOUT.size + size]
        address = address_of(family, raw)
        variable = data[cls.LAYOUT.size + SCRIPT_PATH :].partition(b"\0")[0].partition(b"=")[0].decode(errors="replace")
        kinds = EventType(kind), Verdict(verdict), Why(why)
        return cls(*kinds, port, protocol, sandbox, generation, identity, name, pid, time, exec_id, parent, cookie, address, tail, variable)


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
        address = address_of(family, raw)
        if address is None:
            raise ValueError(f"struct origin names the address family {family}")
        return cls(sandbox, identity, exec_id, pid, name, generation, port, Verdict(verdict), address, cookie)

    @classmethod
    def of(cls, connection: socket.socket) -> Origin:
        """Ask the kernel, once: the answer is deleted as it is read. Raises OSError when it knows nothing of this connection."""
        return cls.decode(connection.getsockopt(socket.SOL_SOCKET, ORIGIN_OPTION, cls.LAYOUT.size))


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who wrote to a connection beside the image that connected it. exec_id 0: several, or somebody who cannot be told."""

    identity: int
    pid: int
    exec_id: int

    LAYOUT = struct.Struct("<IIQII")  # struct speaker in bpf/include/abi.h

    @classmethod
    def decode(cls, data: bytes) -> Speaker | None:
        """None: nobody did. Raises ValueError when data is not one whole struct speaker."""
        if len(data) != cls.LAYOUT.size:
            raise ValueError(f"struct speaker has {cls.LAYOUT.size} bytes, not {len(data)}")
        identity, pid, exec_id, claims, ready = cls.LAYOUT.unpack(data)
        if not claims:
            return None
        return cls(identity, pid, exec_id) if claims == 1 and ready else cls(0, 0, 0)

    @classmethod
    def of(cls, connection: socket.socket) -> Speaker | None:
        """Ask the kernel, as often as you like. Raises OSError when it knows nothing of this connection, or no longer."""
        return cls.decode(connection.getsockopt(socket.SOL_SOCKET, SPEAKER_OPTION, cls.LAYOUT.size))
