"""syslog, RFC 5424: over UDP (RFC 5426), TCP with octet counting (RFC 6587) and TLS (RFC 5425).

syslog answers nothing. Over TCP a batch counts as sent when the receiver's kernel has acknowledged every octet (SIOCOUTQ is 0). That does
not say that the receiver read it: it may be killed, or refuse our certificate, which TLS 1.3 tells after the client has begun to send. So
from time to time a connection is closed by half: the receiver closes the other half when it has read to our end (a kernel that throws away
what was not read sends a reset instead), and only then what was sent counts as arrived. Over UDP it counts as arrived when it was sent.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import struct
import time
from collections.abc import Sequence

from stockade.audit.sinks import tls
from stockade.audit.sinks.sink import ARRIVED, Failed, Item, Outcome
from stockade.settings.sinks import Sink as Rules
from stockade.settings.spec import FACILITIES

log = logging.getLogger(__name__)

_NUMBERS = {"kern": 0, "user": 1, "daemon": 3, "auth": 4, "authpriv": 10, "audit": 13, **{f"local{n}": 16 + n for n in range(8)}}
assert set(_NUMBERS) == set(FACILITIES)
_NOTICE, _INFO = 5, 6
_DATAGRAM = 65_507 - 20  # octets that fit into one over IPv4, and IPv6
_SIOCOUTQ = 0x5411
_LOOK = 0.005
_ONCE_MORE = 1.0  # seconds for a receiver that did not close its half the last time


class SyslogSink:
    def __init__(self, rules: Rules) -> None:
        """Raises StockadeError for certificates that cannot be used."""
        self._rules = rules
        self._context = tls.context(rules.tls) if rules.transport == "tls" else None
        self._socket: socket.socket | None = None
        self._tls: tls.Channel | None = None  # over it
        self._host = _word(socket.gethostname(), 255)
        self._closes = True  # whether the receiver ends its half after ours

    def send(self, batch: Sequence[Item]) -> Outcome:
        messages = [message(item, self._rules.facility, self._host) for item in batch]
        try:
            if self._rules.transport == "udp":
                return self._datagrams(messages)
            self._stream(b"".join(b"%d %s" % (len(each), each) for each in messages))
        except OSError as error:
            self.close()
            raise self._failed(error) from error
        return ARRIVED

    def _failed(self, error: OSError) -> Failed:
        return Failed(f"{self._rules.host}:{self._rules.port}: {error}")

    @property
    def unsure(self) -> bool:
        return self._socket is not None and self._rules.transport != "udp"

    def settle(self) -> None:
        """End the connection by half and wait for the other one. Raises Failed."""
        if not self.unsure:
            return
        assert self._socket is not None
        try:
            if not self._ended():
                self._socket.settimeout(self._rules.timeout if self._closes else min(_ONCE_MORE, self._rules.timeout))
                self._part(self._socket)
        except TimeoutError:
            if self._closes:
                where = f"{self._rules.host}:{self._rules.port}"
                log.warning("%s does not close its half of a closed connection: whether it has read all is not known", where)
            self._closes = False
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self.close()

    def _part(self, connection: socket.socket) -> None:
        """Raises OSError, also for an alert."""
        if self._tls is not None:
            self._tls.shutdown()
        else:
            connection.shutdown(socket.SHUT_WR)
        while self._read():
            pass

    def _read(self) -> bytes:
        assert self._socket is not None
        return self._socket.recv(65536) if self._tls is None else self._tls.recv(65536)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = self._tls = None

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
        if self._socket is not None and self._ended():  # by itself: it had read what was sent before, or this raises
            self.close()
        if self._socket is None:
            self._socket = socket.create_connection((self._rules.host, self._rules.port), self._rules.timeout)
            if self._context is not None:
                self._tls = tls.Channel(self._socket, self._context, self._rules.host)
        self._socket.settimeout(self._rules.timeout)
        (self._tls or self._socket).sendall(data)
        until = time.monotonic() + self._rules.timeout
        while struct.unpack("i", fcntl.ioctl(self._socket, _SIOCOUTQ, b"\0\0\0\0"))[0]:
            if time.monotonic() > until:
                raise TimeoutError("the receiver does not acknowledge what it was sent")
            if self._ended():
                raise ConnectionResetError("the receiver closed the connection")
            time.sleep(_LOOK)
        if self._ended():
            raise ConnectionResetError("the receiver closed the connection")

    def _ended(self) -> bool:
        """A receiver says nothing: what can be read is the end of the connection, or of its TLS (tickets apart, which are taken).

        Raises OSError for an end that is none: a reset, an alert.
        """
        assert self._socket is not None
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.settimeout(0)
            try:
                if not self._read():
                    return True
            except BlockingIOError:
                return False
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
