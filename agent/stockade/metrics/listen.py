"""Where the page of metrics is served, and to whom: nowhere unless somebody says so."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from stockade.types import StockadeError


@dataclass(frozen=True, slots=True)
class Listen:
    """host: an address, never a name. certificate, key: PEM files, for TLS. token: file:PATH or env:NAME of what a client must bring."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None

    @classmethod
    def parse(cls, text: str) -> Listen:
        """`127.0.0.1:9464`, `[::1]:9464`, `:9464` and `9464` for loopback; port 0 is any that is free. Raises ValueError."""
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise ValueError(f"`{port}` is no port")
        try:
            return cls(str(ipaddress.ip_address(host or "127.0.0.1")), int(port))
        except ValueError:
            raise ValueError(f"`{host}` is no address") from None

    def secured(self, certificate: Path | None, key: Path | None, token: str | None) -> Listen:
        return dataclasses.replace(self, certificate=certificate, key=key, token=token)

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def scheme(self) -> str:
        return "http" if self.certificate is None else "https"

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
        except OSError as error:  # an SSLError is one
            said = f"metrics: {self.certificate} with {self.key}: {error.strerror or error}"
            raise StockadeError(said, hint="a certificate and its key, both PEM", code="metrics_tls") from None
        return context

    def secret(self) -> str | None:
        """The token itself. Raises StockadeError when it cannot be had: an unreadable token is not an absent one."""
        if self.token is None:
            return None
        kind, _, where = self.token.partition(":")
        try:
            found = os.environ[where] if kind == "env" else Path(where).read_text(encoding="utf-8").strip()
        except (OSError, KeyError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else "there is no such text"
            raise StockadeError(
                f"metrics: no token in {self.token}: {said}", hint="a file that root can read", code="metrics_token"
            ) from None
        if not found or not found.isascii() or not found.isprintable() or " " in found:
            raise StockadeError(f"metrics: what {self.token} holds is no token", hint="one line of printable ASCII", code="metrics_token")
        return found
