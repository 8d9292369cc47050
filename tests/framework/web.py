"""What nginx cannot play: servers in the tests' own process that stream, stall, upgrade, take uploads, and remember every byte.

Each listens on sockets made inside the namespace. Recording is complete, so `assert not sink.received` proves that nothing arrived.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from framework.ca import Leaf
from framework.netns import Addresses, Namespace
from framework.websocket import Upgraded


@dataclass(frozen=True, slots=True)
class Upload:
    """One request body as it arrived."""

    method: str
    path: str
    size: int
    sha256: str


class Sink:
    """Takes TCP connections and UDP datagrams on one port, v4 and v6, and keeps every byte. Answers each line with its own name."""

    def __init__(self, namespace: Namespace, name: str, addresses: Addresses, port: int) -> None:
        self.name, self.addresses, self.port = name, addresses, port
        self.connections: list[Any] = []
        self.received = bytearray()
        for address in (addresses.v4, addresses.v6):
            self.add(namespace.listen(address, port), namespace.listen(address, port, socket.SOCK_DGRAM))

    def add(self, listener: socket.socket, datagrams: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        threading.Thread(target=self._datagrams, args=(datagrams,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, peer = listener.accept()
            self.connections.append(peer)
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self.received += data
                connection.sendall(f"{self.name} {len(data)}\n".encode())

    def _datagrams(self, datagrams: socket.socket) -> None:
        while True:
            data, peer = datagrams.recvfrom(65536)
            self.connections.append(peer)
            self.received += data
            datagrams.sendto(f"{self.name} {len(data)}\n".encode(), peer)


class Web:
    """HTTPS on 443 and HTTP on 80, HTTP/1.1, a thread per connection.

    GET /bytes/N · /sse (5 events, 0.2 s apart) · /ticks/N (0.1 s apart) · /hold (bytes until the client goes)
    /stall/SECONDS · /ws (echo); PUT, POST: see uploads.
    """

    def __init__(self, namespace: Namespace, addresses: Addresses, leaf: Leaf, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self.connections: list[Any] = []
        self.uploads: list[Upload] = []
        self.paths: list[str] = []
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(leaf.chain, leaf.key)
        for address in (addresses.v4, addresses.v6):
            for port, tls in ((443, context), (80, None)):
                server = _Server(namespace.listen(address, port), handler, tls, self)
                threading.Thread(target=server.serve_forever, daemon=True).start()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(
        self, listener: socket.socket, handler: type[http.server.BaseHTTPRequestHandler], tls: ssl.SSLContext | None, web: Web
    ) -> None:
        super().__init__(listener.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.tls, self.web = listener, tls, web

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.web.connections.append(client_address)
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)  # in the connection's own thread: a silent client holds nobody up
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave early are what half of the tests are about."""


class Http(http.server.BaseHTTPRequestHandler):
    """What every handler here has: whole bodies in, whole answers out."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out apart: the second would wait for the delayed acknowledgement of the first, 40 ms
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """The tests read `uploads` and `paths`."""

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(whole)

    def answer(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Streams(Http):
    """The handler of `stream.web.test`."""

    def do_GET(self) -> None:
        self.server.web.paths.append(self.path)
        _, verb, *rest = self.path.split("/")
        match verb, rest:
            case "bytes", [size]:
                self._bytes(int(size))
            case "sse", _:
                self._stream((f"data: {number}\n\n".encode() for number in range(5)), "text/event-stream", 0.2)
            case "ticks", [count]:
                self._stream((b"tick\n" for _ in range(int(count))), "text/plain", 0.1)
            case "hold", _:
                self._stream(iter(lambda: b"tick\n", b""), "text/plain", 0.1)
            case "stall", [seconds]:
                time.sleep(float(seconds))
                self.answer(b"at last\n", "text/plain")
            case "ws", _:
                self._websocket()
            case _:
                self.answer(json.dumps({"path": self.path, "method": self.command}).encode())

    def do_PUT(self) -> None:
        body = self.body()
        upload = Upload(self.command, self.path, len(body), hashlib.sha256(body).hexdigest())
        self.server.web.uploads.append(upload)
        self.answer(json.dumps({"size": upload.size, "sha256": upload.sha256}).encode())

    do_POST = do_PUT

    def _bytes(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        block = b"x" * 65536
        for start in range(0, size, len(block)):
            self.wfile.write(block[: size - start])

    def _stream(self, chunks: Any, kind: str, pause: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
            time.sleep(pause)
        self.wfile.write(b"0\r\n\r\n")

    def _websocket(self) -> None:
        upgraded = Upgraded(self)
        for message in upgraded.messages():
            upgraded.send(message)


def git_handler(repositories: Path) -> type[Http]:
    """git's own smart-HTTP server, `git http-backend`, for the bare repositories below a directory."""

    class Git(Http):
        def do_GET(self) -> None:
            self.server.web.paths.append(self.path)
            url = urlsplit(self.path)
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(repositories),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": url.path,
                "QUERY_STRING": url.query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_USER": "tests",
                "REMOTE_ADDR": self.client_address[0],
            }
            body = self.body()
            done = subprocess.run(
                ["git", "-c", "safe.directory=*", "http-backend"],
                input=body,
                capture_output=True,
                env=environment | {"CONTENT_LENGTH": str(len(body))},
            )
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.answer(answer, fields.get("Content-Type", "text/plain"), int(fields.get("Status", "200").split()[0]))

        do_POST = do_GET

    return Git
