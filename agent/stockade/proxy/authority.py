"""A sandbox's own certificate authority. Its key is in the memory of the agent and of the one worker that serves it, and in the file
of root's that the next agent adopts from (service/state.py); nowhere else.

Short-lived and per sandbox: a root that leaks opens nothing but that sandbox's own view of the world. No file is written here.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

CA_DAYS = 90  # a sandbox of a daemon may live for weeks; it cannot change its roots while it runs


@dataclass(frozen=True, slots=True)
class Authority:
    """PEM texts; the key never appears in a repr, a log or a traceback."""

    name: str
    certificate_pem: bytes
    key: bytes = field(repr=False)

    @classmethod
    def create(cls, name: str) -> Authority:
        """A fresh EC P-256 root for the sandbox `name`."""
        # Imported here: `stockade run` imports this package before anything else, and cryptography takes 100 ms that the fork can hide.
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Stockade"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Stockade sandbox {name}"[:64]),
            ]
        )
        now = datetime.datetime.now(datetime.UTC)
        usage = x509.KeyUsage(
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
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(
            name=name,
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
