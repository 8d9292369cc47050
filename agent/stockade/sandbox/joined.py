"""A network namespace that somebody else made, entered: the agent's own addresses on its lo, and what is asked of the kernel in there.

A thread enters it for each question, and ends: the process itself stays where it is, and may fork between two. What runs there sees the
devices, sockets and rules of that namespace, and the machine's own files. The namespace is kept by a descriptor, so that what was put into
it can be taken out when its processes are gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stockade.kernel.abi import Network
from stockade.sandbox import libc, netlink
from stockade.types import StockadeError

_LOOPBACK = 1  # LOOPBACK_IFINDEX
_RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWLINK, _RTM_GETLINK = 20, 21, 16, 18
_NLM_F_EXCL, _NLM_F_CREATE = 0x200, 0x400
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_NODAD, _IFLA_IFNAME, _IFLA_LINK = 1, 2, 2, 3, 5
_IFINFO, _IFADDR = struct.Struct("=BxHiII"), struct.Struct("=BBBBI")
_LISTEN = "0A"
_ANY = frozenset({"0" * 8, "0" * 32})


class Joined:
    """of: the PID of a process in it. Raises StockadeError when there is none any more."""

    def __init__(self, of: int) -> None:
        try:
            self._namespace = os.open(f"/proc/{of}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise StockadeError(f"there is no process {of}", code="no_process") from None
        self._ours: list[bytes] = []

    @property
    def inode(self) -> int:
        return os.fstat(self._namespace).st_ino

    def do[T](self, work: Callable[[], T]) -> T:
        """Run it there, and wait."""
        with ThreadPoolExecutor(1, "joined", initializer=os.setns, initargs=(self._namespace, libc.CLONE_NEWNET)) as thread:
            return thread.submit(work).result()

    def add_addresses(self, network: Network, *, again: bool = True) -> None:
        """The agent's, on lo, which comes up if it is down. Raises StockadeError: another agent may have them.

        again: an address that is there already was left by an agent of the same place, and goes with this one. Else what leads there may
        be of somebody who is held, and whose agent is dead: it stays.
        """
        try:
            self.do(lambda: self._add(network, again=again))
        except OSError as error:
            said = f"cannot give lo of the container {network.agent4} and {network.agent6}: {error.strerror}"
            raise StockadeError(said, hint="is it governed by another agent?", code="netns") from None

    def _add(self, network: Network, *, again: bool) -> None:
        with contextlib.suppress(OSError):  # a host without IPv6 has no such file; the address is refused below
            Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("0")
        with _rtnetlink() as kernel:
            netlink.ask(kernel, _RTM_NEWLINK, 0, _IFINFO.pack(0, 0, _LOOPBACK, 1, 1))
            for family, packed in ((socket.AF_INET, network.agent4.packed), (socket.AF_INET6, network.agent6.packed)):
                said = _IFADDR.pack(family, 8 * len(packed), _IFA_F_NODAD, 0, _LOOPBACK)
                said += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
                try:
                    netlink.ask(kernel, _RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, said)
                except FileExistsError:  # left by an agent that died: `spoken_for` says whether somebody uses it
                    if not again:
                        continue
                self._ours.append(said)

    def has(self, network: Network) -> bool:
        """Whether lo has the agent's address of this network already: another agent's, or left by one that died."""
        return self.do(lambda: _bound(str(network.agent4)))

    def spoken_for(self, network: Network) -> bool:
        """Whether somebody listens on the agent's address of this network."""
        return self.do(lambda: bool(_listening(_hexadecimal(network))))

    def devices(self) -> dict[str, int]:
        """Every device but lo, with the index of its other end (IFLA_LINK; its own for a device that has none)."""
        return self.do(_devices)

    def taken(self) -> set[int]:
        """The TCP ports that somebody there listens on at every address: nobody else can have them at one."""
        return self.do(lambda: _listening(_ANY))

    def close(self, *, take_out: bool = True) -> None:
        """Take the agent's addresses out again, unless something leads there still."""

        def taken_out() -> None:
            with _rtnetlink() as kernel:
                for said in self._ours:
                    with contextlib.suppress(OSError):
                        netlink.ask(kernel, _RTM_DELADDR, 0, said)

        if self._ours and take_out:
            self.do(taken_out)
        os.close(self._namespace)


def _bound(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
        return True


def _hexadecimal(network: Network) -> frozenset[str]:
    """As /proc/net/tcp spells an address."""
    return frozenset({f"{struct.unpack('=I', network.agent4.packed)[0]:08X}"})


def _listening(addresses: frozenset[str]) -> set[int]:
    found = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                address, _, port = fields[1].partition(":")
                if fields[3] == _LISTEN and address in addresses:
                    found.add(int(port, 16))
    return found


def _rtnetlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _devices() -> dict[str, int]:
    found: dict[str, int] = {}
    with _rtnetlink() as kernel:
        for message in netlink.dump(kernel, _RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            _, _, index, _, _ = _IFINFO.unpack_from(message)
            name, other, at = "", index, _IFINFO.size
            while at + 4 <= len(message):
                size, attribute = struct.unpack_from("=HH", message, at)
                if attribute == _IFLA_IFNAME:
                    name = message[at + 4 : at + size].rstrip(b"\0").decode()
                elif attribute == _IFLA_LINK:
                    (other,) = struct.unpack_from("=i", message, at + 4)
                at += max(4, size + -size % 4)
            if index != _LOOPBACK:
                found[name] = other
    return found
