"""What makes a sandbox's clients trust its own CA: bundles, the Java keystore, and the variables of clients with a bundle of their own.

The files are written outside the sandbox and shown in it, read-only; the host's own store is never touched.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore
from cryptography.utils import CryptographyDeprecationWarning

from stockade.types import StockadeError

# Where distributions keep the bundle that everything links to: Debian, Red Hat, SUSE, Alpine.
BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
KEYSTORES = (Path("/etc/ssl/certs/java/cacerts"), Path("/etc/pki/java/cacerts"), Path("/etc/pki/ca-trust/extracted/java/cacerts"))

# Clients that carry their own bundle look here first.
VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
)


def system_bundle() -> Path:
    """The CA bundle of this machine, against which upstreams are verified. Raises StockadeError."""
    for path in BUNDLES:
        if path.is_file():
            return path
    raise StockadeError("no CA bundle on this machine", hint="apt-get install ca-certificates", code="no_ca_bundle")


@dataclass(frozen=True, slots=True)
class TrustStore:
    """files: path inside the sandbox → content. variables: for its environment."""

    files: dict[str, bytes]
    variables: dict[str, str]


def build(authority_pem: bytes) -> TrustStore:
    """The machine's roots and the sandbox's own CA, in every place this machine has for them."""
    bundle = system_bundle()
    together = bundle.read_bytes().rstrip() + b"\n" + authority_pem
    files = {str(path.resolve()): together for path in BUNDLES if path.is_file()}
    if keystores := [path.resolve() for path in KEYSTORES if path.is_file()]:
        store = java_store(together)
        files |= {str(path): store for path in keystores}
    return TrustStore(files, dict.fromkeys(VARIABLES, str(bundle.resolve())))


def java_store(bundle: bytes) -> bytes:
    """PKCS #12 with Java's trust attribute and no password: Java loads its default store without one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # some root of every distribution has serial number 0
        roots = [PKCS12Certificate(root, f"root-{i}".encode()) for i, root in enumerate(x509.load_pem_x509_certificates(bundle))]
    return serialize_java_truststore(roots, NoEncryption())
