"""Which addresses and ports an agent takes on the lo of a network namespace where others may have theirs: programs, and other agents."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator

from stockade.kernel.abi import Network
from stockade.sandbox.joined import Joined
from stockade.types import StockadeError

_MORE = 8  # agents beside the first in one namespace: the containers of a pod, each under a policy of its own
_PORTS = 16


def choose(joined: Joined, wanted: Network) -> Network:
    """The settings' own unless they are spoken for. Raises StockadeError when nothing is free."""
    taken = joined.taken()
    for network in _candidates(wanted):
        if not joined.has(network) or not joined.spoken_for(network):
            return _with_ports(network, taken)
    raise StockadeError(
        f"{_MORE + 1} agents are in this network namespace already", hint="attach the pod's cgroup as a whole", code="netns"
    )


def _with_ports(network: Network, taken: set[int]) -> Network:
    first = network.inspect_port
    for port in range(first, first + 2 * _PORTS, 2):
        if not {port, port + 1} & taken:
            return dataclasses.replace(network, inspect_port=port, relay_port=port + 1)
    raise StockadeError(f"TCP ports {first} to {first + 2 * _PORTS} are all taken in this network namespace", code="netns")


def _candidates(wanted: Network) -> Iterator[Network]:
    """Each with an address of its own; ranges may overlap, since a process only ever meets the programs of its own agent."""
    yield wanted
    upper = list(wanted.v4.subnets(1))[1]
    for number, v4 in enumerate(list(upper.subnets(3))[:_MORE], start=1):
        v6 = ipaddress.IPv6Network((int(wanted.v6.network_address) + (number << 64), 64))
        yield dataclasses.replace(wanted, v4=v4, v6=v6)
