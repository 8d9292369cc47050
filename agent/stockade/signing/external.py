"""An organisation's CA: its certificates are checked before anything is signed with its key, and what it signed before it is handed out."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockade.proxy.authority import Signing
from stockade.signing import issue
from stockade.signing.names import Names
from stockade.signing.settings import Ca, Token
from stockade.signing.token import Away, WrongPin, key_of
from stockade.types import StockadeError

_HINT = "the certificate that signs, then those above it, the root last, all in PEM: docs/ca.md"


@dataclass(frozen=True, slots=True)
class Organisation:
    """chain: from the certificate that signs to the root, which the sandbox trusts."""

    ca: Ca
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def read(cls, ca: Ca) -> Organisation:
        """Raises StockadeError: a certificate that could sign nothing which clients believe is refused before a sandbox starts."""
        assert ca.certificate is not None
        try:
            chain = tuple(x509.load_pem_x509_certificates(ca.certificate.read_bytes()))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no certificate in PEM"
            raise StockadeError(f"ca: cannot read {ca.certificate}: {why}", hint=_HINT, code="ca_certificate") from None
        try:
            unfit = _unfit(chain)
        except (ValueError, x509.DuplicateExtension) as error:
            unfit = f"a certificate in it cannot be understood: {error}"
        if unfit is not None:
            raise StockadeError(f"ca: {ca.certificate}: {unfit}", hint=_HINT, code="ca_certificate")
        return cls(ca, chain)

    @property
    def root_pem(self) -> bytes:
        return issue.pem(self.chain[-1])

    @property
    def described(self) -> str:
        """Where its key is."""
        key = self.ca.key
        return f"{key.token}, labelled {key.key}" if isinstance(key, Token) else f"file {key}"

    def sign(self, name: str, names: Names) -> Signing:
        """A key for the sandbox `name`, good for these names. Takes as long as the token does. Raises StockadeError."""
        issuer = self.chain[0]
        public: Any = issuer.public_key()
        above = b"".join(issue.pem(each) for each in self.chain[:-1])
        digest = hashes.SHA384() if isinstance(public, ec.EllipticCurvePublicKey) and public.key_size > 256 else hashes.SHA256()
        try:
            key = key_of(self.ca.key, public) if isinstance(self.ca.key, Token) else _load(self.ca.key)
            made = issue.below(name, issuer, key, self.ca.life, above=above, names=names.constraints(), digest=digest)
            x509.load_pem_x509_certificate(made.certificate_pem).verify_directly_issued_by(issuer)
        except WrongPin as error:
            hint = "correct it there, and it is taken by itself; stockade ca rotate tries the same one once more"
            raise StockadeError(f"ca: nothing can be signed: {error}", hint=hint, code="ca_pin") from None
        except (Away, OSError, ValueError, TypeError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            message = f"ca: nothing can be signed with the key in {self.described}: {why}"
            raise StockadeError(message, hint="stockade doctor tries it; see docs/ca.md", code="ca_unavailable") from None
        except InvalidSignature:
            message = f"ca: the key in {self.described} is not the one of {self.ca.certificate}"
            raise StockadeError(message, hint="another label, or another file", code="ca_unavailable") from None
        return made


def _unfit(chain: tuple[x509.Certificate, ...]) -> str | None:
    """What keeps clients from believing what is signed under it."""
    now = datetime.datetime.now(datetime.UTC)
    for below, each in enumerate(chain):
        who = each.subject.rfc4514_string() or "a certificate"
        if not each.not_valid_before_utc <= now < each.not_valid_after_utc:
            return f"{who} is not valid today: {each.not_valid_before_utc:%Y-%m-%d} to {each.not_valid_after_utc:%Y-%m-%d}"
        try:
            basic = each.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            basic = x509.BasicConstraints(ca=False, path_length=None)
        if not basic.ca:
            return f"{who} is no certificate of a CA"
        if basic.path_length is not None and basic.path_length < below + 1:
            return f"{who} allows {basic.path_length} authorities below it, and this makes {below + 1}: path length"
        usage = [ext.value for ext in each.extensions if isinstance(ext.value, x509.KeyUsage)]
        if usage and not usage[0].key_cert_sign:
            return f"{who} may not sign certificates"
        issuer = chain[below + 1] if below + 1 < len(chain) else each
        try:
            each.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            return f"{who} is not signed by the next certificate of the file" if issuer is not each else f"{who} is the last, and no root"
    return None


def _load(path: Path | None) -> Any:
    assert path is not None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if about.st_uid != os.geteuid() or about.st_mode & 0o077:
            raise ValueError("it is not root's alone (chown root, chmod 600)")
        return serialization.load_pem_private_key(file.read(), password=None)
