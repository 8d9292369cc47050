"""The server's side of one WebSocket, for the tests' own servers: the upgrade, whole messages, pings and the closing handshake."""

from __future__ import annotations

import http.server
from collections.abc import Iterator

from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState
from wsproto.extensions import PerMessageDeflate


class Upgraded:
    """A request that asked for `Upgrade: websocket`, answered with 101. Used from the request's own thread alone.

    deflate: accept permessage-deflate when the client offers it. code: the status of the closing handshake, once there was one.
    """

    def __init__(self, request: http.server.BaseHTTPRequestHandler, *, deflate: bool = False) -> None:
        request.close_connection = True
        self.code: int | None = None
        self.pongs: list[bytes] = []
        self.deflated = False
        self._connection = request.connection
        self._peer = WSConnection(ConnectionType.SERVER)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        self._peer.receive_data(f"GET {request.path} HTTP/1.1\r\n{head}\r\n".encode())
        for event in self._peer.events():
            if isinstance(event, events.Request):
                offer = PerMessageDeflate()
                self._write(events.AcceptConnection(extensions=[offer] if deflate else []))
                self.deflated = offer.enabled()

    def messages(self) -> Iterator[str | bytes]:
        """What the client says, until either side has closed."""
        whole: str | bytes | None = None
        while self.code is None:
            data = self._connection.recv(65536)
            self._peer.receive_data(data or None)
            for event in self._peer.events():
                match event:
                    case events.Message():
                        whole = event.data if whole is None else whole + event.data
                        if event.message_finished:
                            yield whole
                            whole = None
                    case events.Ping():
                        self._write(event.response())
                    case events.Pong():
                        self.pongs.append(bytes(event.payload))
                    case events.CloseConnection():
                        if self._peer.state is ConnectionState.REMOTE_CLOSING:
                            self._write(event.response())
                        self.code = event.code

    def send(self, message: str | bytes) -> None:
        self._write(events.TextMessage(data=message) if isinstance(message, str) else events.BytesMessage(data=message))

    def ping(self, payload: bytes) -> None:
        self._write(events.Ping(payload=payload))

    def close(self, code: int) -> None:
        """Begin the closing handshake; messages() goes on until the client has answered."""
        self._write(events.CloseConnection(code=code))

    def _write(self, event: events.Event) -> None:
        self._connection.sendall(self._peer.send(event))
