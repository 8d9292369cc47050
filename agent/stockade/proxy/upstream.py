"""The other side: dialling an address that the agent checked, and verifying who answers there against the system's roots.

No name is resolved here and no file opened after `Trust.load`: the worker has dropped by then.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

from OpenSSL import SSL

from stockade.proxy.leaves import CIPHERS
from stockade.types import Reason

# CN is not looked at, and a wildcard stands for a whole label: as browsers do (RFC 9525). pyOpenSSL has no names for these.
_HOST_FLAGS = 0x4 | 0x20  # X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT


class Unreachable(Exception):
    """The other side cannot be had: reason for record and answer, error in words."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(error)
        self.reason = reason


class Trust:
    """The roots of this host, read once, before the worker drops. One context for all: the name is set per connection."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    @classmethod
    def load(cls, bundle: Path) -> Trust:
        """Raises OSError or SSL.Error when the bundle is not a readable file of certificates."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION)
        context.set_cipher_list(CIPHERS)
        context.set_verify(SSL.VERIFY_PEER, None)
        bundle.open("rb").close()  # for the plain error; OpenSSL's says neither path nor reason
        context.load_verify_locations(str(bundle))
        return cls(context)

    def connection(self, name: str, protocols: Sequence[bytes]) -> SSL.Connection:
        """A client connection over memory, complete only with a trusted certificate for `name`, or the address. Raises ValueError."""
        connection = SSL.Connection(self._context, None)
        parameters = SSL._lib.SSL_get0_param(connection._ssl)  # type: ignore[attr-defined]
        SSL._lib.X509_VERIFY_PARAM_set_hostflags(parameters, _HOST_FLAGS)  # type: ignore[attr-defined]
        try:
            packed = ipaddress.ip_address(name).packed
        except ValueError:
            host = name.encode("ascii")
            connection.set_tlsext_host_name(host)
            accepted = SSL._lib.X509_VERIFY_PARAM_set1_host(parameters, host, len(host))  # type: ignore[attr-defined]
        else:
            accepted = SSL._lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))  # type: ignore[attr-defined]
        if accepted != 1:
            raise ValueError(f"OpenSSL takes no expectation of {name!r}")  # without it any trusted certificate would do
        if protocols:
            connection.set_alpn_protos(list(protocols))
        connection.set_connect_state()
        return connection


async def dial(addresses: Sequence[str], port: int, seconds: float) -> socket.socket:
    """A connected socket to the first address that answers, in the given order. Raises OSError (TimeoutError included) when none does."""
    loop = asyncio.get_running_loop()
    failure: OSError = ConnectionRefusedError("no address to dial")
    share = seconds / max(1, len(addresses))
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            async with asyncio.timeout(share):
                await loop.sock_connect(sock, (address, port))
            return sock
        except OSError as error:  # asyncio.timeout raises TimeoutError, which is one
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure
