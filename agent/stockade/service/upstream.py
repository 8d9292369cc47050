"""Where a name leads: resolved by the host's own resolver, in the agent, and checked against the refused ranges before anybody dials it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import struct
from urllib.parse import urlsplit

from stockade.policy import Policy, refused_range
from stockade.policy.own import is_own
from stockade.proxy import Resolved
from stockade.proxy.spine import Local
from stockade.sandbox import netlink
from stockade.types import Binary

LOCALHOST = "localhost"

_RTM_GETROUTE, _RTA_DST, _RTN_LOCAL = 26, 1, 2
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, length of the destination, …, type, flags; rtnetlink(7)
_NOWHERE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL}  # no route, and those of ip-route(8) that lead nowhere


async def resolve(host: str, port: int, policy: Policy, binary: Binary | None) -> Resolved:
    """Addresses that a binary's connection to a host may be led to, in the resolver's order; None is any binary.

    One refused address among several does not spoil the others. What another binary's rule names exactly opens nothing to this one.
    """
    if is_own(host):
        return Resolved((), f"{host} is nowhere but here")
    found = await _look_up(host, port)
    if not found:
        return Resolved(())
    refusals = {
        address: refused_range(ipaddress.ip_address(address), host, policy, port, binary, own=_leads_here(address)) for address in found
    }
    allowed = tuple(address for address, refusal in refusals.items() if refusal is None)
    if allowed:
        return Resolved(allowed)
    said = ", ".join(f"{address} is {refusal}" for address, refusal in refusals.items())
    return Resolved((), said)


def but_for_own(found: Resolved, port: int) -> Resolved:
    """Addresses of this machine left out: on this port of theirs the agent itself listens, whatever a policy says."""
    others = tuple(address for address in found.addresses if not _is_ours(address))
    if others or not found.addresses:
        return Resolved(others, found.refused)
    return Resolved((), f"{', '.join(f'{address} port {port}' for address in found.addresses)} is the agent's own")


def _leads_here(address: str) -> bool:
    """Whether this machine would dial itself, by its routes: every address that it has, and what else it takes for its own.

    The source that it would take is another one of its own for a second address, and it binds to any with net.ipv4.ip_nonlocal_bind.
    """
    dialled = ipaddress.ip_address(address)
    if isinstance(dialled, ipaddress.IPv6Address) and dialled.ipv4_mapped is not None:
        dialled = dialled.ipv4_mapped
    octets, family = dialled.packed, socket.AF_INET6 if dialled.version == 6 else socket.AF_INET
    said = _ROUTE.pack(family, len(octets) * 8, 0, 0, 0, 0, 0, 0, 0) + struct.pack("=HH", 4 + len(octets), _RTA_DST) + octets
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            route = _ROUTE.unpack_from(netlink.one(kernel, _RTM_GETROUTE, said))
    except OSError as error:
        return error.errno not in _NOWHERE  # what cannot be asked counts as own
    return bool(route[7] == _RTN_LOCAL)


def _is_ours(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
        return True


async def local(policy: Policy) -> Local:
    """The local model of a policy. Its author named the very place, so no range is refused: it is on this machine or near it."""
    privacy = getattr(policy, "privacy", None)
    if privacy is None or privacy.local is None:
        return Local((), refused="the policy names no local model")
    url = urlsplit(privacy.local.url)
    found = await _look_up(url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    if not found:
        return Local((), refused=f"{url.hostname} does not resolve")
    key = os.environ.get(privacy.local.api_key_env) if privacy.local.api_key_env else None
    if privacy.local.api_key_env and not key:
        return Local((), refused=f"the agent's environment has no {privacy.local.api_key_env}")
    return Local(tuple(found), key)


async def _look_up(host: str, port: int) -> list[str]:
    """The host's own resolver's answer, in its order; empty when it has none."""
    if host == LOCALHOST:
        return ["127.0.0.1", "::1"]
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(answer[4][0]).partition("%")[0] for answer in answers))
