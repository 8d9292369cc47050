"""mitmproxy's HTTP/1 towards a server, held tighter: an interim answer is not the answer, and a head has an end.

mitmproxy takes `103 Early Hints` for the whole answer: its status would be on record, and the client would wait for ever for the one that
follows. Interim answers are left out instead; no client is promised any. A head without an end is kept without one there.
"""

from __future__ import annotations

import re
from typing import Any

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client

LONGEST = 256 * 1024  # octets of a head; servers refuse requests with heads much shorter than this

_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9][0-9][ \r\n]")
_BLANK = re.compile(rb"\n\r?\n")


class ServerHttp1(Http1Client):
    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[Any]:
        if isinstance(event, events.DataReceived) and self.request:
            while _INTERIM.match(waiting := bytes(self.buf)):
                end = _BLANK.search(waiting)
                if end is None:
                    break
                self.buf.maybe_extract_at_most(end.end())
            if not waiting:
                return
            if len(waiting) > LONGEST and _BLANK.search(waiting) is None:
                assert self.stream_id is not None
                yield commands.CloseConnection(self.conn)
                error = f"the head of the answer is longer than {LONGEST} octets"
                yield ReceiveHttp(ResponseProtocolError(self.stream_id, error, ErrorCode.GENERIC_SERVER_ERROR))
                return
        yield from super().read_headers(event)
