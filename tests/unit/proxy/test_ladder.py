"""The ladder as a truth table: a head, a caller, the outcome. No socket, no mitmproxy."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stockade.proxy.ladder import Admitted, Head, Refusal, judge, names_dialled, same_host
from stockade.proxy.refusal import body
from stockade.proxy.spine import Caller
from stockade.types import Action, Binary, Decision, Effect, Level, Outcome, Reason, Request

CALLER = Caller(Binary.named("curl"), (), "api.example.com", 443)
PLAIN = Head("GET", "/v1/x?q=%2e", None, (("host", "api.example.com"),))


def decide(request: Request, policy: object) -> Decision:
    """GET, HEAD and POST on /v1/**; /v1/admin is denied."""
    allowed = request.method in {"GET", "HEAD", "POST", "TRACE"}
    level = Level.PATH if allowed else Level.METHOD
    if allowed:
        path = request.path or ""
        allowed = path.startswith("/v1/") and not path.startswith("/v1/admin")
    outcome = Outcome.ALLOW if allowed else Outcome.DENY
    return Decision(outcome, Effect.PASS if allowed else Effect.REFUSE, level, Reason.RULE_ALLOW if allowed else Reason.NO_RULE, "api", 3)


def head(**changes: object) -> Head:
    return replace(PLAIN, **changes)  # type: ignore[arg-type]


def headers(*fields: tuple[str, str]) -> Head:
    return head(headers=(*PLAIN.headers, *fields))


ALLOWED = {
    "as it is": PLAIN,
    "port said": head(headers=(("host", "api.example.com:443"),)),
    "case and trailing dot": head(headers=(("host", "API.example.COM."),)),
    "absolute form of the same host": head(authority="api.example.com"),
    "authority without Host": head(authority="api.example.com:443", headers=()),
    "HEAD is said by the policy": head(method="HEAD"),
    "TRACE that the policy lists": head(method="TRACE"),
    "_method in the query of a GET": head(path="/v1/x?_method=DELETE"),
    "a method among others' names": head(method="POST", path="/v1/x?payment_method=card&methods=%24&$filter=a"),
}

REFUSED = {
    "CONNECT": (head(method="CONNECT"), Level.METHOD, Reason.METHOD_INVALID),
    "lower case": (head(method="get"), Level.METHOD, Reason.METHOD_INVALID),
    "empty method": (head(method=""), Level.METHOD, Reason.METHOD_INVALID),
    "method with a space": (head(method="GET "), Level.METHOD, Reason.METHOD_INVALID),
    "unlisted method": (head(method="PATCH"), Level.METHOD, Reason.NO_RULE),
    "malformed": (head(malformed="two lengths"), Level.DESTINATION, Reason.PROTOCOL_ERROR),
    "another host": (head(headers=(("host", "evil.example"),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "suffix": (head(headers=(("host", "api.example.com.evil.example"),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "prefix": (head(headers=(("host", "evilapi.example.com"),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "another port": (head(headers=(("host", "api.example.com:8443"),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "userinfo": (head(headers=(("host", "api.example.com@evil.example"),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "userinfo before": (head(headers=(("host", "x@api.example.com"),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "comma": (head(headers=(("host", "api.example.com, evil.example"),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "path in Host": (head(headers=(("host", "api.example.com/x"),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "no Host": (head(headers=()), Level.DESTINATION, Reason.HOST_MISMATCH),
    "empty Host": (head(headers=(("host", ""),)), Level.DESTINATION, Reason.HOST_MISMATCH),
    "two Hosts": (headers(("host", "api.example.com")), Level.DESTINATION, Reason.HOST_MISMATCH),
    "authority of another": (head(authority="evil.example"), Level.DESTINATION, Reason.HOST_MISMATCH),
    "authority right, Host wrong": (
        head(authority="api.example.com", headers=(("host", "evil.example"),)),
        Level.DESTINATION,
        Reason.HOST_MISMATCH,
    ),
    "method override": (headers(("x-http-method-override", "DELETE")), Level.METHOD, Reason.HEADER_REFUSED),
    "method override 2": (headers(("x-method-override", "DELETE")), Level.METHOD, Reason.HEADER_REFUSED),
    "method override 3": (headers(("x-http-method", "DELETE")), Level.METHOD, Reason.HEADER_REFUSED),
    "override, WSGI spelling": (headers(("x_http_method", "DELETE")), Level.METHOD, Reason.HEADER_REFUSED),
    "original url": (headers(("x-original-url", "/admin")), Level.PATH, Reason.HEADER_REFUSED),
    "rewrite url": (headers(("x-rewrite-url", "/admin")), Level.PATH, Reason.HEADER_REFUSED),
    "forwarded host": (headers(("x-forwarded-host", "evil.example")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "override, with dots": (headers(("x.http.method.override", "DELETE")), Level.METHOD, Reason.HEADER_REFUSED),
    "original uri": (headers(("x-original-uri", "/admin")), Level.PATH, Reason.HEADER_REFUSED),
    "forwarded": (headers(("forwarded", "host=evil.example")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "host override": (headers(("x-http-host-override", "evil.example")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "framing, CGI spelling": (headers(("transfer_encoding", "chunked")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "length, CGI spelling": (headers(("content.length", "3")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "framing taken off": (headers(("connection", "close, Content-Length")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "host taken off": (headers(("connection", "keep-alive"), ("connection", "host")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "_method": (head(method="POST", path="/v1/x?a=1&_METHOD=DELETE"), Level.METHOD, Reason.HEADER_REFUSED),
    "_method, encoded": (head(method="POST", path="/v1/x?%5fm%65thod=DELETE"), Level.METHOD, Reason.HEADER_REFUSED),
    "_method, as PHP reads it": (head(method="POST", path="/v1/x?+.method[]=DELETE"), Level.METHOD, Reason.HEADER_REFUSED),
    "_method behind a semicolon": (head(method="POST", path="/v1/x?a;_method"), Level.METHOD, Reason.HEADER_REFUSED),
    "override in the query": (head(method="POST", path="/v1/x?X-HTTP-Method-Override=PUT"), Level.METHOD, Reason.HEADER_REFUSED),
    "$httpMethod": (head(path="/v1/x?%24httpMethod=DELETE"), Level.METHOD, Reason.HEADER_REFUSED),
    "$httpHeaders": (head(path="/v1/x?$httpHeaders=X-HTTP-Method-Override:DELETE"), Level.METHOD, Reason.HEADER_REFUSED),
    "WebSocket by POST": (
        head(method="POST", headers=(*PLAIN.headers, ("upgrade", "websocket"))),
        Level.METHOD,
        Reason.METHOD_INVALID,
    ),
    "a letter that lower case makes ASCII": (
        head(authority="api.example.com".replace("e", "\u212f")),
        Level.DESTINATION,
        Reason.HOST_MISMATCH,
    ),
    "full-width": (head(authority="ａpi.example.com"), Level.DESTINATION, Reason.HOST_MISMATCH),
    "upgrade to anything": (headers(("upgrade", "tls/1.0")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "upgrade to two things": (headers(("upgrade", "websocket, h2c")), Level.DESTINATION, Reason.HEADER_REFUSED),
    "path invalid": (head(path="/v1/%00"), Level.PATH, Reason.PATH_INVALID),
    "query invalid": (head(path="/v1/x?a\x00"), Level.PATH, Reason.PATH_INVALID),
    "path climbs to a denied one": (head(path="/v1/x/../../admin"), Level.PATH, Reason.NO_RULE),
    "denied behind %2F": (head(path="/v1%2Fadmin"), Level.PATH, Reason.NO_RULE),
    "denied behind %2F below": (head(path="/v1/%2fadmin"), Level.PATH, Reason.NO_RULE),
    "denied behind ;": (head(path="/v1;x/admin"), Level.PATH, Reason.NO_RULE),
    "denied behind a segment of parameters alone": (head(path="/v1/;x/admin"), Level.PATH, Reason.NO_RULE),
    "the same, encoded": (head(path="/v1/%3bx/admin"), Level.PATH, Reason.NO_RULE),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name):
    assert isinstance(judge(ALLOWED[name], CALLER, None, decide), Admitted)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    given, level, reason = REFUSED[name]
    outcome = judge(given, CALLER, None, decide)
    assert isinstance(outcome, Refusal) and (outcome.level, outcome.reason) == (level, reason)


def test_what_is_sent_is_the_canonical_path_and_the_query_as_it_was():
    outcome = judge(head(path="/v1//a/%2e%2e/%62?q=%2e&b=/../"), CALLER, None, decide)
    assert isinstance(outcome, Admitted) and (outcome.path, outcome.target) == ("/v1/b", "/v1/b?q=%2e&b=/../")
    bare = judge(head(path="/v1/b?"), CALLER, None, decide)
    assert isinstance(bare, Admitted) and bare.target == "/v1/b?"


def test_a_websocket_is_its_get():
    outcome = judge(headers(("upgrade", "WebSocket"), ("connection", "upgrade")), CALLER, None, decide)
    assert isinstance(outcome, Admitted) and outcome.action is Action.WEBSOCKET and not outcome.drop_upgrade
    denied = judge(head(path="/v2", headers=(*PLAIN.headers, ("upgrade", "websocket"))), CALLER, None, decide)
    assert isinstance(denied, Refusal) and denied.action is Action.WEBSOCKET


def test_h2c_is_dropped():
    outcome = judge(headers(("upgrade", "h2c")), CALLER, None, decide)
    assert isinstance(outcome, Admitted) and outcome.action is Action.HTTP and outcome.drop_upgrade


@pytest.mark.parametrize(
    ("said", "host", "same"),
    [
        ("a.example", "a.example", True),
        ("A.EXAMPLE.", "a.example", True),
        ("a.example..", "a.example", False),
        ("[2001:DB8::1]", "2001:db8::1", True),
        ("2001:db8:0::1", "2001:db8::1", True),
        ("127.1", "127.0.0.1", False),
        ("0x7f000001", "127.0.0.1", False),
        ("127.0.0.1", "localhost", True),
        ("localhost", "127.0.0.1", False),
        ("a.example", "localhost", False),
        ("ａ.example", "a.example", False),
        ("web", "web.shop.svc.cluster.local", True),
        ("web.shop", "web.shop.svc.cluster.local", True),
        ("Web.Shop.svc.", "web.shop.svc.cluster.local", True),
        ("shop", "web.shop.svc.cluster.local", False),
        ("other", "web.shop.svc.cluster.local", False),
        ("web.shop.svc.cluster", "web.shop.svc.cluster.local", False),
        ("web", "web.shop.example.com", False),
        ("web", "web.shop.svc", False),
        ("", "web.shop.svc.cluster.local", False),
    ],
)
def test_same_host(said, host, same):
    assert same_host(said, host) is same


def test_a_bracketed_literal_with_its_port():
    assert names_dialled("[2001:db8::1]:443", replace(CALLER, host="2001:db8::1"))
    assert not names_dialled("[2001:db8::1", replace(CALLER, host="2001:db8::1"))
    assert not names_dialled("[10.0.0.1]", replace(CALLER, host="10.0.0.1"))
    assert not names_dialled("\u212a.example", replace(CALLER, host="k.example"))  # KELVIN SIGN: its lower case is k
    assert names_dialled("xn--bcher-kva.example", replace(CALLER, host="xn--bcher-kva.example"))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/bot123456:AAbb-cc_dd/sendMessage", "/bot***/sendMessage"),
        ("/bot123456%3AAAbb/sendMessage", "/bot***/sendMessage"),
        ("/api/webhooks/42/secret-token", "/api/webhooks/42/***"),
        ("/x/ghp_0123456789abcdefghijABCDEFGHIJ", "/x/***"),
        ("/api/botany/list", "/api/botany/list"),
    ],
)
def test_a_refusal_echoes_no_credential(path, shown):
    refusal = Refusal(Level.PATH, Reason.NO_RULE, "the policy denies this request", path)
    assert json.loads(body(refusal, CALLER, "GET"))["path"] == shown
