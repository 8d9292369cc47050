"""The worker's limits: every timer, size and count of the proxy in one place, with the reason for its number."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Where distributions keep the bundle of roots that the administrator trusts, most common first.
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine without ca-certificates, BSD
)


def system_bundle() -> Path:
    """The file of trusted roots: SSL_CERT_FILE of the agent, else the distribution's. Raises FileNotFoundError when there is none."""
    named = os.environ.get("SSL_CERT_FILE")
    for candidate in (named,) if named else SYSTEM_BUNDLES:
        if Path(candidate).is_file():
            return Path(candidate)
    raise FileNotFoundError(f"no bundle of trusted roots: looked at {named or ', '.join(SYSTEM_BUNDLES)}")


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds, sizes in bytes."""

    head_seconds: float = 10.0  # accept to the end of the first request head, TLS handshake included: a trickled head holds nothing
    idle_seconds: float = 120.0  # between two requests of one connection, whatever trickles in meanwhile
    dial_seconds: float = 10.0  # to reach the other side, over all its addresses
    upstream_tls_seconds: float = 10.0  # from its accept to the end of the upstream handshake
    quiet_seconds: int = 3600  # nothing in either direction: a model may think for long before its first byte
    head_bytes: int = 64 * 1024  # request line and headers
    hello_bytes: int = 64 * 1024  # a ClientHello over all its records; post-quantum ones take about 2 KiB
    discard_bytes: int = 1 << 30  # body of refused requests read and thrown away before the connection is reset
    pipeline_bytes: int = 1 << 20  # sent ahead of an answer that is still under way
    message_bytes: int = 64 << 20  # of one WebSocket message, which is put together before it is passed on
    message_fragments: int = 64 * 1024  # of one such message: each goes on by itself when the last has come, and empty ones cost as much
    messages_bytes: int = 256 << 20  # of all that are still coming in, per sandbox: compressed, 64 MiB are 64 KiB on the wire
    window_bytes: int = 1 << 20  # held for an HTTP/2 peer that does not open its window
    window_seconds: float = 5.0  # how long one read waits for that window; then 64 KiB more are taken
    connections: int = 512  # at once per sandbox; the rest waits in the kernel's backlog
    leaves: int = 512  # certificates kept per sandbox
    callers: int = 4096  # answers of the agent kept: who is behind an origin
    read_bytes: int = 16 << 20  # of a body that is read before it is passed on; a longer one cannot be read
    read_total: int = 256 << 20  # of all such bodies at once
    health_seconds: float = 5.0  # to look whether a local model is there
    classify_seconds: float = 30.0  # for what is in a request; then on_failure decides
    trust: Path | None = None  # roots for the upstream side; None = system_bundle()
