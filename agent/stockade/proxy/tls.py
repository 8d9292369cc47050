"""What TLS needs on both sides of a worker, all of it in memory before the drop."""

from __future__ import annotations

from collections import OrderedDict

from stockade.proxy.leaves import LeafKeys
from stockade.proxy.upstream import Trust

HTTP1_SERVERS = 4096


class Tls:
    """Trusted roots, leaf keys, and which servers are known to speak HTTP/1 only."""

    def __init__(self, trust: Trust, keys: LeafKeys) -> None:
        self.trust, self.keys = trust, keys
        self._http1: OrderedDict[tuple[str, int], None] = OrderedDict()

    def learn(self, address: tuple[str, int], protocol: bytes | None) -> None:
        """Remember what a server chose when h2 was offered: an HTTP/2 client on it costs a new connection per request."""
        if protocol == b"h2":
            self._http1.pop(address, None)
        else:
            self._http1[address] = None
            if len(self._http1) > HTTP1_SERVERS:
                self._http1.popitem(last=False)

    def protocols(self, address: tuple[str, int]) -> tuple[bytes, ...]:
        """What a client may choose."""
        return (b"http/1.1",) if address in self._http1 else (b"h2", b"http/1.1")
