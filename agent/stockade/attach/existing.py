"""Connections that a container has already when it is governed: listed, and cut, unless the one who attaches wants them kept.

Asked of the kernel's sock_diag in the container's network namespace (sock_diag(7)); whose they are says /proc. Sees TCP and connected UDP.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from stockade.kernel.abi import Network
from stockade.kernel.maps import Maps
from stockade.sandbox import libc, netlink
from stockade.sandbox.joined import Joined

_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NETLINK_SOCK_DIAG = 4
_REQUEST = struct.Struct("=BBBBI")  # struct inet_diag_req_v2, before its id
_ID = 48  # struct inet_diag_sockid
_TCP, _UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
_ESTABLISHED, _LISTEN, _CLOSE = 1, 10, 7
_TCP_STATES = ((1 << 12) - 1) & ~(1 << _LISTEN | 1 << _CLOSE | 1 << 6)  # all but these and TIME_WAIT, which is nobody's
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Conversation:
    """identifier: the kernel's name for it, to speak of it again. peer: address and port. descriptor: in its process."""

    protocol: str
    peer: tuple[str, int]
    local: tuple[str, int]
    pid: int
    descriptor: int
    family: int
    identifier: bytes

    def __str__(self) -> str:
        return f"{self.protocol} {self.pid} {_joined(self.local)} -> {_joined(self.peer)}"

    def leaves(self, network: Network, *, shared: bool) -> bool:
        """Whether it goes anywhere but to the namespace itself, or to the agent. shared: with the host, whose loopback is not its own."""
        return ipaddress.ip_address(self.peer[0]) not in (network.agent4, network.agent6) if shared else not self.on_loopback

    @property
    def on_loopback(self) -> bool:
        return ipaddress.ip_address(self.peer[0]).is_loopback


def _joined(end: tuple[str, int]) -> str:
    return f"[{end[0]}]:{end[1]}" if ":" in end[0] else f"{end[0]}:{end[1]}"


def conversations(joined: Joined, processes: Iterable[int]) -> list[Conversation]:
    """Of these processes, as of this moment. Raises OSError."""
    owners = _owners(processes)
    found = joined.do(
        lambda: [entry for family in (socket.AF_INET, socket.AF_INET6) for kind in (_TCP, _UDP) for entry in _dump(family, kind)]
    )
    return [
        Conversation("tcp" if kind == _TCP else "udp", peer, local, *owners[inode], family, identifier)
        for family, kind, inode, local, peer, identifier in found
        if inode in owners
    ]


def cut(joined: Joined, conversation: Conversation) -> bool:
    """False: the kernel cannot (CONFIG_INET_DIAG_DESTROY), or it is over. Its packets are refused all the same, but for loopback."""

    def destroy() -> bool:
        kind = _TCP if conversation.protocol == "tcp" else _UDP
        said = _REQUEST.pack(conversation.family, kind, 0, 0, 0xFFFFFFFF) + conversation.identifier
        with _diag() as kernel:
            netlink.ask(kernel, _SOCK_DESTROY, 0, said)
            return True

    try:
        return joined.do(destroy)
    except OSError:
        return False


def keep(maps: Maps, sandbox: int, generation: int, conversation: Conversation) -> None:
    """Let it go on, by the programs. Raises OSError: it is cut, packet by packet."""
    process = os.pidfd_open(conversation.pid)
    try:
        descriptor = libc.descriptor_of(process, conversation.descriptor)
    finally:
        os.close(process)
    try:
        address, port = conversation.peer
        maps.keep(descriptor, sandbox, generation, ipaddress.ip_address(address), port, conversation.pid)
    finally:
        os.close(descriptor)


def _owners(processes: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Inode of a socket → a process that has it open, and as which descriptor."""
    found: dict[int, tuple[int, int]] = {}
    for pid in processes:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    if matched := _SOCKET.fullmatch(os.readlink(descriptor.path)):  # noqa: PTH115 (a text, not a path)
                        found.setdefault(int(matched[1]), (pid, int(descriptor.name)))
    return found


def _diag() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)


def _dump(family: int, kind: int) -> list[tuple[int, int, int, tuple[str, int], tuple[str, int], bytes]]:
    found: list[tuple[int, int, int, tuple[str, int], tuple[str, int], bytes]] = []
    states = _TCP_STATES if kind == _TCP else 1 << _ESTABLISHED
    said = _REQUEST.pack(family, kind, 0, 0, states) + bytes(_ID)
    try:
        with _diag() as kernel:
            for message in netlink.dump(kernel, _SOCK_DIAG_BY_FAMILY, said):  # struct inet_diag_msg
                identifier = message[4 : 4 + _ID]
                inode = struct.unpack_from("=I", message, 4 + _ID + 16)[0]
                ports = struct.unpack_from("!HH", identifier)
                local, peer = (_address(family, identifier[start : start + 16]) for start in (4, 20))
                found.append((family, kind, inode, (local, ports[0]), (peer, ports[1]), identifier))
    except OSError as error:
        if kind != _UDP or error.errno != errno.ENOENT:  # without udp_diag such sockets are refused packet by packet
            raise OSError(error.errno, f"connections cannot be listed: {error.strerror}") from None
    return found


def _address(family: int, packed: bytes) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(family, packed[:4])
    text = ipaddress.IPv6Address(packed)
    return str(text.ipv4_mapped or text)
