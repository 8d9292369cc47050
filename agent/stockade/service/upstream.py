"""Where a name leads: resolved by the host's own resolver, in the agent, and checked against the refused ranges before anybody dials it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from stockade.policy import Policy, refused_range
from stockade.policy.own import is_own
from stockade.proxy import Resolved
from stockade.types import Binary

LOCALHOST = "localhost"


async def resolve(host: str, port: int, policy: Policy, binary: Binary | None) -> Resolved:
    """Addresses that a binary's connection to a host may be led to, in the resolver's order; None is any binary.

    One refused address among several does not spoil the others. What another binary's rule names exactly opens nothing to this one.
    """
    if is_own(host):
        return Resolved((), f"{host} is nowhere but here")
    if host == LOCALHOST:
        found = ["127.0.0.1", "::1"]
    else:
        try:
            loop = asyncio.get_running_loop()
            answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return Resolved(())
        found = list(dict.fromkeys(str(answer[4][0]).partition("%")[0] for answer in answers))
    refusals = {address: refused_range(ipaddress.ip_address(address), host, policy, port, binary) for address in found}
    allowed = tuple(address for address, refusal in refusals.items() if refusal is None)
    if allowed:
        return Resolved(allowed)
    said = ", ".join(f"{address} is {refusal}" for address, refusal in refusals.items())
    return Resolved((), said)
