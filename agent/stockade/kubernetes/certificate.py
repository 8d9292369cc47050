"""The certificate that the webhook shows, read again when its files change: a Secret's volume is renewed under a running pod."""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path

from cryptography import x509

from stockade.types import StockadeError

log = logging.getLogger(__name__)

_AGAIN = 1.0  # seconds until a pair that could not be used is tried again

type _Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """certificate, key: PEM files. until: Unix time at which the one in use ends. failing: why the newest could not be used."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises StockadeError when they cannot be used."""
        self._files = certificate, key
        self.until, self.failing = 0.0, ""
        self._stamp = self._stamped()
        self._tried = time.monotonic()
        self._context = self._loaded()

    def context(self) -> ssl.SSLContext:
        """For the next connection: as the files are now, or as they were when they could last be used."""
        stamp = self._stamped()
        if stamp == self._stamp or (self.failing and time.monotonic() - self._tried < _AGAIN):
            return self._context
        self._tried = time.monotonic()
        try:
            self._context = self._loaded()
            self._stamp, self.failing = stamp, ""
            log.warning("webhook: another certificate is shown from now on")
        except StockadeError as error:  # one of the two may be the older one still
            if error.message != self.failing:
                log.error("webhook: the certificate before goes on: %s", error.message)
            self.failing = error.message
        return self._context

    def _stamped(self) -> _Stamp:
        try:
            found = [path.stat() for path in self._files]
        except OSError:
            return ()
        return tuple((about.st_mtime_ns, about.st_ino, about.st_size) for about in found)

    def _loaded(self) -> ssl.SSLContext:
        certificate, key = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(certificate, key, password=_nobody)
            until = x509.load_pem_x509_certificates(certificate.read_bytes())[0].not_valid_after_utc
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            said = f"{certificate} with {key}: {getattr(error, 'strerror', None) or error}"
            raise StockadeError(said, hint="a certificate and its key, both PEM, without a password", code="webhook_tls") from None
        self.until = until.timestamp()
        return context


def _nobody() -> str:
    raise ValueError("the key has a password")
