"""Certificates that the worker shows to clients, minted in memory from a sandbox's authority. Never written, never shared.

Every name gets an EC leaf and an RSA one in the same TLS context: OpenSSL shows RSA only to a client that cannot take ECDSA (TLS 1.2 with
RSA suites, old Java). One RSA key per worker, made while it starts: that takes 100 ms, and signing with it is paid by those clients alone.
"""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from stockade.proxy.authority import Authority

LEAF_DAYS = 7
RENEW_SECONDS = (LEAF_DAYS - 1) * 86400

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:AESGCM:AES:!aNULL:!eNULL:!MD5:!DSS:!PSK:!SRP"


@dataclass(frozen=True, slots=True)
class LeafKeys:
    """The worker's own keys: one of each kind, for the leaves of all its sandboxes."""

    elliptic: ec.EllipticCurvePrivateKey
    rsa: rsa.RSAPrivateKey

    @classmethod
    def generate(cls) -> LeafKeys:
        return cls(ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048))


class Leaves:
    """TLS server contexts of one sandbox, by exact name or address; the least recently used goes when `capacity` is reached."""

    def __init__(self, authority: Authority, keys: LeafKeys, capacity: int) -> None:
        self._issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
        key = serialization.load_pem_private_key(authority.key, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not an EC key")
        self._key, self._leaf_keys, self._capacity = key, keys, capacity
        self._contexts: OrderedDict[str, tuple[float, SSL.Context]] = OrderedDict()

    def context(self, name: str) -> SSL.Context:
        """The context that shows certificates for `name` and lets the client choose h2 or http/1.1 (`offer` may narrow it)."""
        made, context = self._contexts.get(name, (0.0, None))
        if context is None or time.monotonic() - made > RENEW_SECONDS:
            context = self._make(name)
            self._contexts[name] = (time.monotonic(), context)
            if len(self._contexts) > self._capacity:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(name)
        return context

    def connection(self, name: str) -> SSL.Connection:
        """A server connection over memory that shows certificates for `name`."""
        return SSL.Connection(self.context(name), None)

    def _make(self, name: str) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
        context.set_cipher_list(CIPHERS)
        context.set_alpn_select_callback(_select)
        for key in (self._leaf_keys.rsa, self._leaf_keys.elliptic):
            context.use_certificate(self._mint(name, key.public_key()))
            context.use_privatekey(key)
        return context

    def _mint(self, name: str, public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> x509.Certificate:
        alternative: x509.GeneralName
        try:
            alternative = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
            .issuer_name(self._issuer.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - datetime.timedelta(hours=1), self._issuer.not_valid_before_utc))
            .not_valid_after(min(now + datetime.timedelta(days=LEAF_DAYS), self._issuer.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def offer(connection: SSL.Connection, protocols: tuple[bytes, ...]) -> None:
    """What this connection may choose by ALPN; the context is shared, so the offer sits on the connection."""
    connection.set_app_data(protocols)


def _select(connection: SSL.Connection, wanted: list[bytes]) -> Any:
    offered = connection.get_app_data() or (b"http/1.1",)
    for protocol in wanted:  # the client's own order of preference
        if protocol in offered:
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS
