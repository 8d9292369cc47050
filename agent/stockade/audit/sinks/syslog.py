"""syslog, RFC 5424: over UDP (RFC 5426), TCP with octet counting (RFC 6587) and TLS (RFC 5425).

syslog answers nothing. Over TCP a batch counts as arrived when the receiver's kernel has acknowledged every octet (SIOCOUTQ is 0); what the
receiver does with it then is its own. Over UDP it counts as arrived when it was sent.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Sequence

from stockade.audit.sinks import tls
from stockade.audit.sinks.sink import ARRIVED, Failed, Item, Outcome
from stockade.settings.sinks import Sink as Rules
from stockade.settings.spec import FACILITIES

_NUMBERS = {"kern": 0, "user": 1, "daemon": 3, "auth": 4, "authpriv": 10, "audit": 13, **{f"local{n}": 16 + n for n in range(8)}}
assert set(_NUMBERS) == set(FACILITIES)
_NOTICE, _INFO = 5, 6
_DATAGRAM = 65_507 - 20  # octets that fit into one over IPv4, and IPv6
_SIOCOUTQ = 0x5411
_LOOK = 0.005


class SyslogSink:
    def __init__(self, rules: Rules) -> None:
        """Raises StockadeError for certificates that cannot be used."""
        self._rules = rules
        self._context = tls.context(rules.tls) if rules.transport == "tls" else None
        self._socket: socket.socket | None = None
        self._host = _word(socket.gethostname(), 255)

    def send(self, batch: Sequence[Item]) -> Outcome:
        messages = [message(item, self._rules.facility, self._host) for item in batch]
        try:
            if self._rules.transport == "udp":
                return self._datagrams(messages)
            self._stream(b"".join(b"%d %s" % (len(each), each) for each in messages))
        except (OSError, ssl.SSLError) as error:
            self.close()
            raise Failed(f"{self._rules.host}:{self._rules.port}: {error}") from error
        return ARRIVED

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _datagrams(self, messages: list[bytes]) -> Outcome:
        if self._socket is None:
            family, kind, protocol, _, address = socket.getaddrinfo(self._rules.host, self._rules.port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.connect(address)
        refused = []
        for place, each in enumerate(messages):
            if len(each) > _DATAGRAM:
                refused.append(place)
            else:
                self._socket.send(each)
        return Outcome(refused, why=f"it is longer than a datagram ({_DATAGRAM} octets)")

    def _stream(self, data: bytes) -> None:
        if self._socket is not None and self._gone(self._socket):
            self.close()
        if self._socket is None:
            plain = socket.create_connection((self._rules.host, self._rules.port), self._rules.timeout)
            try:
                self._socket = plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self._rules.host)
            except BaseException:
                plain.close()
                raise
        self._socket.settimeout(self._rules.timeout)
        self._socket.sendall(data)
        until = time.monotonic() + self._rules.timeout
        while struct.unpack("i", fcntl.ioctl(self._socket, _SIOCOUTQ, b"\0\0\0\0"))[0]:
            if time.monotonic() > until:
                raise TimeoutError("the receiver does not acknowledge what it was sent")
            if self._gone(self._socket):
                raise ConnectionResetError("the receiver closed the connection")
            time.sleep(_LOOK)
        if self._gone(self._socket):
            raise ConnectionResetError("the receiver closed the connection")

    @staticmethod
    def _gone(connection: socket.socket) -> bool:
        """A receiver says nothing: what can be read is the end of the connection, or of its TLS (tickets apart, which are taken)."""
        while select.select([connection], [], [], 0)[0]:
            connection.settimeout(0)
            try:
                if not connection.recv(4096):
                    return True
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except OSError:
                return True
        return False


def message(item: Item, facility: str, host: str) -> bytes:
    """`<PRI>1 TIME HOST stockade PID MSGID - MSG`. Nothing of the record stands in the header but its action."""
    severity = _NOTICE if item.record["decision"] == "deny" else _INFO
    priority = _NUMBERS[facility] * 8 + severity
    head = f"<{priority}>1 {item.time} {host} stockade {os.getpid()} {_word(str(item.record['action']), 32)} - "
    return head.encode("ascii") + item.text


def _word(text: str, most: int) -> str:
    """A header field: printable ASCII without spaces."""
    return "".join(c for c in text if "!" <= c <= "~")[:most] or "-"
