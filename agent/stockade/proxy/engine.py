"""Inspected connections: one narrow interface, `Engine.handle`, and mitmproxy's sans-io layers as what stands behind it.

Owns what all connections of a worker share: trust, the router of what is read, the budget of bodies, the options of mitmproxy. What one
connection is made of is in handler.py and requests.py.
"""

from __future__ import annotations

import asyncio

from mitmproxy import options as moptions
from mitmproxy.proxy import mode_specs

from stockade.privacy.serve.client import Client
from stockade.proxy.connection import Connection
from stockade.proxy.handler import Handler
from stockade.proxy.local import LocalModels
from stockade.proxy.router import Router
from stockade.proxy.screen import Budget
from stockade.proxy.settings import Settings
from stockade.proxy.tls import Tls


def _options(quiet: int) -> moptions.Options:
    options = moptions.Options()
    for name, kind, value in (
        ("store_streamed_bodies", bool, False),
        ("stream_large_bodies", str | None, None),
        ("body_size_limit", str | None, None),
        ("connection_strategy", str, "lazy"),  # eager dials before the policy has spoken
        ("keep_host_header", bool, True),
        ("proxy_debug", bool, False),
        ("normalize_outbound_headers", bool, True),
        ("validate_inbound_headers", bool, True),
    ):
        options.add_option(name, kind, value, "")
    switches = {"rawtcp": False, "upstream_cert": False, "http2": True, "http3": False, "websocket": True}
    options.update(**switches, http2_ping_keepalive=0, tcp_timeout=quiet)  # type: ignore[no-untyped-call]
    return options


class Engine:
    """mitmproxy behind the interface that another engine would have: `handle` one admitted connection until it is over."""

    def __init__(self, tls: Tls, settings: Settings) -> None:
        self.tls, self.settings = tls, settings
        self.classifier = Client()
        self.router = Router(self.classifier, LocalModels(tls.trust, settings), settings)
        self.budget = Budget(settings.read_bytes, settings.read_total)
        self.options = _options(settings.quiet_seconds)
        self.mode = mode_specs.ProxyMode.parse("transparent")

    def rehearse(self) -> None:
        """Load what Python loads on first use: after the drop there is no file to load it from."""
        import cryptography.hazmat.backends.openssl.backend  # noqa: F401 - signing a leaf asks for it by name

        "xn--bcher-kva.example".encode("idna").decode("idna")
        self.tls.trust.connection("rehearsal.example", (b"h2",))
        self.router.rehearse()

    def forget(self, sandbox: int) -> None:
        """Keep nothing of a sandbox that has ended."""
        self.router.forget(sandbox)

    async def handle(self, connection: Connection) -> None:
        reader, writer = await asyncio.open_connection(sock=connection.client)
        handler = Handler(connection, self, reader, writer)
        connection.live = handler
        if connection.stale:  # the reload that came in between did not see it
            await handler.redecide()
        await handler.run()
