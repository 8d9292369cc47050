"""The one device of a sandbox's network namespace: up, and with the agent's own addresses beside its own.

pyroute2 spells the messages; they are sent on a plain socket. Its IPRoute would start an event loop and read the machine's state for three
requests: 7 ms of 0.7 (measured, pyroute2 0.9.7).
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from typing import Any

from stockade.kernel.abi import Network

_LOOPBACK = 1  # LOOPBACK_IFINDEX (include/net/net_namespace.h): lo of every network namespace
_IFA_F_NODAD = 2  # usable at once
_IFF_UP = 1
_NLMSG_ERROR = 2
_ERROR = struct.Struct("=IHHIIi")  # struct nlmsghdr, then the error of struct nlmsgerr; netlink(7)


def bring_up(network: Network) -> None:
    """In this thread's own network namespace. Raises OSError with what the kernel answered."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        for message in messages(network):
            kernel.send(message)
            answer = kernel.recv(65536)
            _, answered, _, _, _, error = _ERROR.unpack_from(answer)
            if answered != _NLMSG_ERROR or error:
                raise OSError(-error, f"lo of the sandbox: {os.strerror(-error)}")


@functools.cache
def messages(network: Network) -> tuple[bytes, ...]:
    """Up, and an address in each family that is not loopback, or AI_ADDRCONFIG would ask for neither.

    The same for every sandbox: an agent that launches many spells them once, and what it forks knows them.
    """
    # not at the top: it takes 0.1 s, and the agent has other things to do meanwhile
    from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
    from pyroute2.netlink.rtnl import RTM_NEWADDR, RTM_NEWLINK
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    up = ifinfmsg()
    up["index"], up["flags"], up["change"] = _LOOPBACK, _IFF_UP, _IFF_UP
    spelt = [_spelt(up, RTM_NEWLINK, 0)]
    for family, address, bits in ((socket.AF_INET, network.agent4, 32), (socket.AF_INET6, network.agent6, 128)):
        own = ifaddrmsg()
        own["family"], own["prefixlen"], own["index"], own["flags"] = int(family), bits, _LOOPBACK, _IFA_F_NODAD
        own["attrs"] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
        spelt.append(_spelt(own, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL))
    return tuple(spelt)


def _spelt(message: Any, kind: int, flags: int) -> bytes:
    from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST

    message["header"] = {"type": kind, "flags": NLM_F_REQUEST | NLM_F_ACK | flags, "sequence_number": 1, "pid": 0}
    message.encode()
    return bytes(message.data)
