"""A root of one sandbox's own. It leaks nothing but that sandbox's own view of the world, and it ends with it."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockade.proxy.authority import Authority, Signing
from stockade.signing import issue
from stockade.signing.settings import LIFE

ROOT_DAYS = 3650  # what a program has read at its start it trusts to its end: the root must outlive any sandbox, what signs under it not


def create(name: str, life: float = LIFE) -> Authority:
    """An EC P-256 root for the sandbox `name`, and a first key under it that signs for `life` seconds."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    root = (
        issue.certificate(name, "sandbox", key.public_key())
        .issuer_name(issue.subject(name, "sandbox"))
        .not_valid_before(now - issue.EARLIER)
        .not_valid_after(now + datetime.timedelta(days=ROOT_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(name, issue.pem(root), issue.below(name, root, key, life), issue.private(key))


def again(authority: Authority, life: float) -> Signing:
    """Another key under the same root."""
    assert authority.root_key is not None, "a root of its own"
    key = serialization.load_pem_private_key(authority.root_key, None)
    return issue.below(authority.name, x509.load_pem_x509_certificate(authority.certificate_pem), key, life)
