"""mitmproxy's HTTP/1 towards a server, held tighter: an interim answer is not the answer, and a head has an end.

mitmproxy takes `103 Early Hints` for the whole answer: its status would be on record, and the client would wait for ever for the one that
follows. Interim answers are left out instead; no client is promised any. A head without an end is kept without one there.
"""

from __future__ import annotations

import re
from typing import Any

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestHeaders, ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client

LONGEST = 256 * 1024  # octets of a head; servers refuse requests with heads much shorter than this
INTERIM = 256  # interim answers to one request: a 102 every twenty seconds for an hour (RFC 2518, 10.1) is fewer

_INTERIM = re.compile(rb"HTTP/1\.[01][ \t]+1(?!01)[0-9][0-9][ \t\r\n]")  # blanks as mitmproxy takes them
_BLANK = re.compile(rb"\n\r?\n")


class ServerHttp1(Http1Client):
    _interim = 0

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestHeaders):
            self._interim = 0
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[Any]:
        if isinstance(event, events.DataReceived) and self.request:
            while _INTERIM.match(waiting := bytes(self.buf)):
                end = _BLANK.search(waiting)
                if end is None:
                    break
                self.buf.maybe_extract_at_most(end.end())
                self._interim += 1
                if self._interim > INTERIM:
                    yield from self._give_up(f"more than {INTERIM} interim answers")
                    return
            if not waiting:
                return
            if len(waiting) > LONGEST and _BLANK.search(waiting) is None:
                yield from self._give_up(f"the head of the answer is longer than {LONGEST} octets")
                return
        yield from super().read_headers(event)

    def _give_up(self, error: str) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(ResponseProtocolError(self.stream_id, error, ErrorCode.GENERIC_SERVER_ERROR))
