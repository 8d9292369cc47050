"""Requests that somebody else answers than the server that the client dialled: the local model.

What such a request is to be answered by never goes to that server, also when nobody knows any more who answers it.
"""

from __future__ import annotations

import itertools
import socket

from mitmproxy import http

from stockade.proxy.exchange import Exchange
from stockade.proxy.screen import Answering
from stockade.proxy.upstream import Unreachable
from stockade.types import Reason

LED = ".led.invalid"  # ends the names that such answers come from. A host that a rule calls so resolves for nobody (RFC 6761)

Address = tuple[str, int]


class Detours:
    """Of one connection. Each request is led to a name that no other has, and is answered once."""

    def __init__(self) -> None:
        self._answering: dict[Address, Answering] = {}  # until it is dialled
        self._numbers = itertools.count()

    def lead(self, request: http.Request, exchange: Exchange, ask: Answering) -> None:
        """The call is there already: what goes now is an empty one."""
        address = (f"{next(self._numbers)}{LED}", 80)
        self._answering[address] = ask
        request.data.host, request.data.port = address
        request.scheme, request.authority = "http", ""
        request.headers = http.Headers([(b"host", b"local"), (b"content-length", b"0")])
        request.data.content = b""
        exchange.request_bytes = ask.size

    def taken(self, address: Address | None) -> socket.socket | None:
        """The connection that the answer comes on; None for an address of the client's own. Raises Unreachable."""
        if address is None or not address[0].endswith(LED):
            return None
        ask = self._answering.pop(address, None)
        if ask is None or (answer := ask.take()) is None:
            raise Unreachable(Reason.PRIVACY_LOCAL_FAILURE, "the local model is asked once for each request")
        return answer
