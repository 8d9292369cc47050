"""Making the certificate under which a sandbox's own are signed: below a root, short-lived, for servers' certificates and nothing else.

What it is for is in the certificate, so that a key that is stolen is worth no more than the sandbox it was stolen from: no further
authority below it (path length 0), no use but TLS servers, and under an organisation's root no name that the policy does not have.
"""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockade.proxy.authority import Signing

EARLIER = datetime.timedelta(hours=1)  # a clock inside may be behind
_ISSUES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def below(
    name: str,
    issuer: x509.Certificate,
    key: Any,
    life: float,
    *,
    above: bytes = b"",
    names: x509.NameConstraints | None = None,
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
) -> Signing:
    """A fresh EC P-256 key for the sandbox `name`, and its certificate. key: the issuer's, wherever it is. life: seconds.

    above: what clients are shown beside it. Raises whatever the issuer's key does.
    """
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        certificate(name, "signing", own.public_key())
        .issuer_name(issuer.subject)
        .not_valid_before(max(now - EARLIER, issuer.not_valid_before_utc))
        .not_valid_after(min(now + datetime.timedelta(seconds=life), issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_known_as(issuer), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=True)
    made = builder.sign(key, digest or hashes.SHA256())
    return Signing(pem(made), private(own), above, now.timestamp(), made.not_valid_after_utc.timestamp())


def certificate(name: str, what: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    """What every certificate of an authority here has."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject(name, what))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .add_extension(_ISSUES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def subject(name: str, what: str) -> x509.Name:
    """what: of Stockade's it is. A common name has 64 characters at most (RFC 5280, ub-common-name)."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Stockade"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Stockade {what} {name}"[:64]),
        ]
    )


def _known_as(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """By the identifier that the issuer has, which need not be the hash of its key."""
    try:
        stated = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        public: Any = issuer.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(stated.value)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
