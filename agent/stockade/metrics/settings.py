"""Where the page of metrics is served, and to whom: nowhere unless somebody says so."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from stockade.types import StockadeError

DEFAULT_PORT = 9464  # OpenTelemetry's for a Prometheus exporter


@dataclass(frozen=True, slots=True)
class Listen:
    """host: an address, never a name. token: what a client must bring. certificate, key: PEM files for TLS."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Listen:
        """`127.0.0.1:9464`, `[::1]:9464`, `:9464` and `9464` for loopback; port 0 is any that is free. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = "", text
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise ValueError(f"{port!r} is no port")
        address = ipaddress.ip_address(host or "127.0.0.1")
        return cls(str(address), int(port))

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """Raises StockadeError when the certificate or its key cannot be used."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            said = error.strerror or error
            raise StockadeError(
                f"metrics: {self.certificate} with {self.key or 'its key'}: {said}", hint="PEM", code="metrics_tls"
            ) from None
        return context
