"""TLS towards receivers: 1.2 at least, the name checked, against the system's certificates or those that the settings name."""

from __future__ import annotations

import contextlib
import socket
import ssl

from stockade.settings.sinks import Tls
from stockade.types import StockadeError


def context(rules: Tls) -> ssl.SSLContext:
    """Raises StockadeError."""
    try:
        found = ssl.create_default_context(cafile=None if rules.ca is None else str(rules.ca))
        found.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13: it refuses authorities for what they need not say
        found.minimum_version = ssl.TLSVersion.TLSv1_2
        if rules.certificate is not None:
            found.load_cert_chain(rules.certificate, rules.key)
    except (OSError, ssl.SSLError) as error:
        where = ", ".join(str(path) for path in (rules.ca, rules.certificate, rules.key) if path is not None)
        raise StockadeError(
            f"cannot use the certificates in {where}: {error}", hint="PEM files that root may read", code="sink_tls"
        ) from error
    return found


class Channel:
    """TLS over a connected socket, whose timeout holds here too: unlike Python's own, it ends one direction and goes on reading the other,
    and tells an alert from an end.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, name: str) -> None:
        """Raises OSError."""
        self._plain, self._incoming, self._outgoing = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    self._flush()
                    self._fill()
        finally:
            self._flush()  # an alert too

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view[:65536]) :]
            self._flush()

    def recv(self, size: int) -> bytes:
        """Empty at the end, whether or not the other side said that it ends. Raises OSError, also for an alert."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""

    def shutdown(self) -> None:
        """Nothing more will be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        self._plain.shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._plain.sendall(self._outgoing.read())

    def _fill(self) -> None:
        data = self._plain.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
