"""The one device of a sandbox's network namespace: up, and with the agent's own addresses beside its own.

pyroute2 spells the messages; they are sent on a plain socket. Its IPRoute would start an event loop and read the machine's state for three
requests: 7 ms of 0.7 (measured, pyroute2 0.9.7).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from stockade.kernel.abi import Network

_LOOPBACK = 1  # LOOPBACK_IFINDEX (include/net/net_namespace.h): lo of every network namespace
_IFA_F_NODAD = 2  # usable at once
_IFF_UP = 1
_ERROR = struct.Struct("=IHHIIi")  # struct nlmsghdr, then the error of struct nlmsgerr; netlink(7)


def bring_up(network: Network) -> None:
    """In this thread's own network namespace. Raises OSError with what the kernel answered.

    One address that is not loopback in each family, or AI_ADDRCONFIG would ask for neither.
    """
    # not at the top: it takes 0.1 s, and the agent has other things to do meanwhile
    from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
    from pyroute2.netlink.rtnl import RTM_NEWADDR, RTM_NEWLINK
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        up = ifinfmsg()
        up["index"], up["flags"], up["change"] = _LOOPBACK, _IFF_UP, _IFF_UP
        _ask(kernel, up, RTM_NEWLINK, 0)
        for family, address, bits in ((socket.AF_INET, network.agent4, 32), (socket.AF_INET6, network.agent6, 128)):
            own = ifaddrmsg()
            own["family"], own["prefixlen"], own["index"], own["flags"] = int(family), bits, _LOOPBACK, _IFA_F_NODAD
            own["attrs"] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
            _ask(kernel, own, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL)


def _ask(kernel: socket.socket, message: Any, kind: int, flags: int) -> None:
    from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR

    message["header"] = {"type": kind, "flags": NLM_F_REQUEST | NLM_F_ACK | flags, "sequence_number": 1, "pid": 0}
    message.encode()
    kernel.send(message.data)
    answer = kernel.recv(65536)
    _, answered, _, _, _, error = _ERROR.unpack_from(answer)
    if answered != NLMSG_ERROR or error:
        raise OSError(-error, f"lo of the sandbox: {os.strerror(-error)}")
