"""Names ↔ synthetic addresses: the address that a sandbox dials *is* the name it asked for.

Owns the numbering of names in one sandbox: index n is the n-th address of both ranges. An index is never given to a second name, so an
address that an application kept for days still means what it meant. Decides nothing and knows no kernel map.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

RESERVED = 256  # indexes below are the agent's own: 198.18.0.1 and fd57:a11d::1 carry its listeners
V4 = IPv4Network("198.18.0.0/15")
V6 = IPv6Network("fd57:a11d::/64")


class QuotaExceeded(Exception):
    """This sandbox has named as many hosts as it may."""


class SyntheticTable:
    """The names of one sandbox. Thread-safe: the resolver allocates while the proxy's side looks up."""

    def __init__(self, v4: IPv4Network = V4, v6: IPv6Network = V6, quota: int = 65536) -> None:
        """quota: names this sandbox may allocate. Raises ValueError when the ranges cannot hold a single name."""
        room = min(v4.num_addresses, v6.num_addresses) - RESERVED - 1  # the last v4 address is a broadcast
        if room < 1 or quota < 1:
            raise ValueError(f"{v4} and {v6} leave no room for names")
        self.v4, self.v6, self.quota = v4, v6, min(quota, room)
        self._v4, self._v6 = int(v4.network_address), int(v6.network_address)
        self._indexes: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next = RESERVED
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._indexes)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """(index, name) of all, oldest first: what is persisted beside the pinned maps."""
        with self._lock:
            return iter(list(self._names.items()))

    def restore(self, names: Iterable[tuple[int, str]]) -> None:
        """Take up what a dead agent's table held. Raises ValueError for an index or name that is given twice, or out of range."""
        with self._lock:
            for index, name in names:
                if not RESERVED <= index < RESERVED + self.quota or index in self._names or name in self._indexes:
                    raise ValueError(f"index {index} of {name!r} clashes with the table")
                self._indexes[name], self._names[index] = index, name
                self._next = max(self._next, index + 1)

    def index_of(self, name: str) -> int | None:
        """name: lower case, no trailing dot."""
        return self._indexes.get(name)

    def allocate(self, name: str) -> int:
        """The index of name, a new one when it has none. Raises QuotaExceeded."""
        with self._lock:
            index = self._indexes.get(name)
            if index is None:
                if self._next >= RESERVED + self.quota:
                    raise QuotaExceeded(f"all {self.quota} synthetic addresses are taken")
                index, self._next = self._next, self._next + 1
                self._indexes[name], self._names[index] = index, name
            return index

    def name_of(self, index: int) -> str | None:
        return self._names.get(index)

    def addresses(self, index: int) -> tuple[IPv4Address, IPv6Address]:
        return IPv4Address(self._v4 + index), IPv6Address(self._v6 + index)

    def index_at(self, address: IPv4Address | IPv6Address) -> int | None:
        """The index that an address stands for, allocated or not; None outside both ranges. A v4-mapped address is its v4 one."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if isinstance(address, IPv4Address):
            return int(address) - self._v4 if address in self.v4 else None
        return int(address) - self._v6 if address in self.v6 else None
