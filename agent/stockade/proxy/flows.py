"""Requests and answers as mitmproxy has them, read and changed: nothing here decides, waits or keeps anything."""

from __future__ import annotations

from mitmproxy import http

from stockade.proxy.exchange import Exchange
from stockade.proxy.ladder import Admitted, Head
from stockade.proxy.screen import Verdict


def declared(request: http.Request) -> int:
    """Octets that a body is announced with; 0 where nothing is said, or nothing that is a number."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 19 else 0


def admit(request: http.Request, admitted: Admitted) -> None:
    """As it was judged, so it goes out."""
    request.path = admitted.target
    if not request.is_http2:
        request.authority = ""  # origin form: the absolute form names nothing that the connection does not
    if admitted.drop_upgrade:
        for name in ("upgrade", "http2-settings", "connection"):
            request.headers.pop(name, None)


def head_of(flow: http.HTTPFlow) -> Head:
    """As the client said it: mitmproxy decodes A-labels, and no name is compared decoded."""
    request = flow.request
    return Head(
        method=request.data.method.decode("ascii", "replace"),
        path=request.data.path.decode("utf-8", "surrogateescape"),
        authority=request.data.authority.decode("latin-1") or None,
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.fields),
        malformed=flow.error.msg if flow.error is not None else None,
    )


def rewrite(request: http.Request, verdict: Verdict) -> None:
    """What goes out instead of what came."""
    if verdict.headers is not None:
        fields = ((name.encode("latin-1"), value.encode("latin-1")) for name, value in verdict.headers)
        request.headers = http.Headers(list(fields))
    if verdict.target is not None:
        request.path = verdict.target
    if verdict.body is not None:
        request.data.content = verdict.body
        for name in ("content-encoding", "transfer-encoding", "content-md5", "digest", "content-digest"):
            request.headers.pop(name, None)
        request.headers["content-length"] = str(len(verdict.body))
    if verdict.answer is not None:
        request.headers["accept-encoding"] = "identity"  # the answer is read too


def read_answer(flow: http.HTTPFlow, exchange: Exchange, verdict: Verdict, *, h2: bool) -> None:
    """Its octets pass through a reader, which may change how many there are. h2: what the client speaks."""
    response, request = flow.response, flow.request
    assert response is not None
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.fields]
    reader = verdict.answer(response.status_code, fields)
    if request.method != "HEAD" and response.status_code not in (204, 304):
        response.headers.pop("content-length", None)
        if h2:
            response.headers.pop("transfer-encoding", None)
        elif request.http_version != "HTTP/1.0":  # which is read to its end
            response.headers["transfer-encoding"] = "chunked"
    if verdict.ask is not None:
        response.headers.pop("connection", None)

    def passed(data: bytes) -> list[bytes]:
        made: bytes = reader.feed(data) if data else reader.end()
        if not data:
            exchange.told |= reader.said()
        return [exchange.count_response(made)] if made else []  # a chunk of no octets would end a chunked body

    response.stream = passed
