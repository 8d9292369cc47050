"""The admission webhook as a process of its own, and certificates for it."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

COMMAND = (sys.executable, "-m", "stockade", "kubernetes", "webhook")


def certify(directory: Path, address: str, name: str = "webhook") -> bytes:
    """Write tls.crt and tls.key, for that address, into a directory. Returns what a client is to trust: the certificate itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    no_password = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)
    for path, content in ((directory / "tls.key", secret), (directory / "tls.crt", pem)):
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)
    return pem


@contextmanager
def running(directory: Path, *words: str, listen: str, inside: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """With the certificate of a directory. inside: what its command is put behind, as nsenter with its words."""
    files = ("--certificate", str(directory / "tls.crt"), "--key", str(directory / "tls.key"))
    command = [*inside, *COMMAND, *files, "--listen", listen, "--verbose", *words]
    with (directory / "webhook.log").open("a") as log:
        started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield started
    finally:
        started.terminate()
        started.communicate(timeout=60)


def address(started: subprocess.Popen[str], what: str = "webhook") -> tuple[str, int]:
    """Where it says that it serves. Raises RuntimeError when it ended first."""
    assert started.stdout is not None
    for line in started.stdout:
        if line.startswith(f"stockade: {what} at "):
            host, _, port = line.split()[-1].rpartition(":")
            return host.strip("[]"), int(port)
    raise RuntimeError("the webhook ended before it served")
