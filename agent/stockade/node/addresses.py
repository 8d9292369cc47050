"""From where a node comes into its own pods: kubelet's probes, and port-forwarding. Its own addresses, and what is a pod's way out."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from pathlib import Path

from stockade.sandbox import netlink
from stockade.sandbox.joined import Joined

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_RTM_GETADDR, _IFA_ADDRESS, _IFA_LOCAL = 22, 1, 2
_IFADDR = struct.Struct("=BBBBI")
_GATEWAY = 2  # RTF_GATEWAY


def of_node() -> tuple[IPNetwork, ...]:
    """Where this process is in the node's own network; nothing elsewhere, where it has addresses of its own."""
    try:
        if Path("/proc/self/ns/net").stat().st_ino != Path("/proc/1/ns/net").stat().st_ino:
            return ()
    except OSError:
        return ()
    found: list[IPNetwork] = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        for message in netlink.dump(kernel, _RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
            at = _IFADDR.size
            while at + 4 <= len(message):
                size, attribute = struct.unpack_from("=HH", message, at)
                if attribute == _IFA_ADDRESS:
                    found.append(ipaddress.ip_network(message[at + 4 : at + size]))
                at += max(4, size + -size % 4)
    return tuple(each for each in found if not each.is_loopback and not each.is_link_local)


def gateways(joined: Joined) -> tuple[IPNetwork, ...]:
    """By which the packets of a pod leave it: on most networks an address of the node's, and its source for what it sends into the pod."""
    return joined.do(_gateways)


def _gateways() -> tuple[IPNetwork, ...]:
    found: list[IPNetwork] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]:
            words = line.split()
            if words[1] == "0" * 8 and int(words[3], 16) & _GATEWAY:
                found.append(ipaddress.ip_network(struct.pack("=I", int(words[2], 16))))
    with contextlib.suppress(OSError):
        for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines():
            words = line.split()
            if words[1] == "00" and int(words[8], 16) & _GATEWAY:
                found.append(ipaddress.ip_network(bytes.fromhex(words[4])))
    return tuple(found)
