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
from OpenSSL._util import ffi, lib

from stockade.proxy.authority import Signing

LEAF_DAYS = 7
RENEW_SECONDS = (LEAF_DAYS - 1) * 86400

_openssl: Any = lib  # pyOpenSSL sets the callback only together with making it
_NULL: Any = ffi.NULL

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:AESGCM:AES:!aNULL:!eNULL:!MD5:!DSS:!PSK:!SRP"


@dataclass(frozen=True, slots=True)
class LeafKeys:
    """The worker's own: one key of each kind and one TLS context, for the leaves of all its sandboxes.

    One callback for ALPN, because setting it makes cffi map executable memory and read /proc: that has to be over before the drop. The
    context of a sandbox, which holds what is shown beside its leaves, borrows it.
    """

    elliptic: ec.EllipticCurvePrivateKey
    rsa: rsa.RSAPrivateKey
    context: SSL.Context

    @classmethod
    def generate(cls) -> LeafKeys:
        context = _context()
        context.set_alpn_select_callback(_select)
        return cls(ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048), context)

    def showing(self, chain: list[x509.Certificate]) -> SSL.Context:
        """A context whose connections show these certificates after their leaf."""
        context: Any = _context()
        lending: Any = self.context
        for certificate in chain:
            context.add_extra_chain_cert(certificate)
        context._alpn_select_helper, context._alpn_select_callback = lending._alpn_select_helper, lending._alpn_select_callback
        _openssl.SSL_CTX_set_alpn_select_cb(context._context, context._alpn_select_callback, _NULL)
        made: SSL.Context = context
        return made


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
    context.set_cipher_list(CIPHERS)
    return context


@dataclass(frozen=True, slots=True)
class Pair:
    """The two leaves of one name and when they were made, on the monotonic clock."""

    elliptic: x509.Certificate
    rsa: x509.Certificate
    made: float


class Expired(Exception):
    """The signing key is past its time: nobody would believe what it signs."""


class Leaves:
    """The leaves of one sandbox under one signing key, by exact name or address; the least recently used goes at `capacity`."""

    def __init__(self, signing: Signing, keys: LeafKeys, capacity: int) -> None:
        chain = x509.load_pem_x509_certificates(signing.certificate_pem + signing.above_pem)
        self._issuer, self._context = chain[0], keys.showing(chain)
        key = serialization.load_pem_private_key(signing.key, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not an EC key")
        self._key, self._keys, self._capacity = key, keys, capacity
        self._pairs: OrderedDict[str, Pair] = OrderedDict()

    def connection(self, name: str, protocols: tuple[bytes, ...]) -> SSL.Connection:
        """A server connection over memory that shows certificates for `name`; the client may choose among protocols by ALPN.

        Raises Expired.
        """
        if datetime.datetime.now(datetime.UTC) >= self._issuer.not_valid_after_utc:
            raise Expired(f"the key that signs certificates expired at {self._issuer.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
        pair = self._pair(name)
        connection = SSL.Connection(self._context, None)
        for certificate, key in ((pair.rsa, self._keys.rsa), (pair.elliptic, self._keys.elliptic)):
            connection.use_certificate(certificate)
            connection.use_privatekey(key)
        connection.set_app_data(protocols)  # the callback is shared, so the offer sits on the connection
        connection.set_accept_state()
        return connection

    def _pair(self, name: str) -> Pair:
        pair = self._pairs.get(name)
        if pair is None or time.monotonic() - pair.made > RENEW_SECONDS:
            public = self._keys.elliptic.public_key(), self._keys.rsa.public_key()
            pair = self._pairs[name] = Pair(self._mint(name, public[0]), self._mint(name, public[1]), time.monotonic())
            if len(self._pairs) > self._capacity:
                self._pairs.popitem(last=False)
        self._pairs.move_to_end(name)
        return pair

    def _mint(self, name: str, public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> x509.Certificate:
        alternative: x509.GeneralName
        try:
            # OpenSSL holds a common name that reads as a host, as 192.0.2.1 does, to the constraints on names: a space keeps it out
            alternative, common = x509.IPAddress(ipaddress.ip_address(name)), f"address {name}"
        except ValueError:
            alternative, common = x509.DNSName(name), name[:64]
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
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


def _select(connection: SSL.Connection, wanted: list[bytes]) -> Any:
    offered = connection.get_app_data() or (b"http/1.1",)
    for protocol in wanted:  # the client's own order of preference
        if protocol in offered:
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS
