"""A certificate authority for the test servers: RSA and EC, chains as long as asked for, server and client certificates."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Kind = Literal["ec", "rsa"]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Leaf:
    """Paths of a PEM chain (leaf first, without the root) and of its private key."""

    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs others; `chain` is what a server must send after its leaf: this one and those above, without the root."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @classmethod
    def root(cls, kind: Kind = "ec") -> Self:
        key = _key(kind)
        name = _name(f"Stockade tests {kind} root")
        return cls(_signed(_authority(name, name, key), key, key), key)

    def intermediate(self, kind: Kind = "ec") -> Authority:
        key = _key(kind)
        certificate = _signed(
            _authority(_name(f"Stockade tests {kind} below {len(self.chain)}"), self.certificate.subject, key), key, self.key
        )
        return Authority(certificate, key, (certificate, *self.chain))

    def issue(self, directory: Path, *names: str, kind: Kind = "ec", client: bool = False) -> Leaf:
        """A certificate for `names`, written to `directory` as NAME.pem and NAME.key."""
        key = _key(kind)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            _builder(_name(names[0]), self.certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        leaf = Leaf(directory / f"{names[0]}.pem", directory / f"{names[0]}.key")
        leaf.chain.write_bytes(b"".join(pem(certificate) for certificate in (_signed(builder, key, self.key), *self.chain)))
        leaf.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        return leaf


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key(kind: Kind) -> Key:
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    return _builder(subject, issuer, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)


def _signed(builder: x509.CertificateBuilder, key: Key, signer: Key) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(identifier, critical=False).sign(signer, hashes.SHA256())
