"""The key that signs checkpoints, and the public keys that a verifier trusts.

Owns two files beside the trail, both outside every sandbox: the private key (PKCS#8 PEM, 0600) and PATH.pub, every public key that ever
signed this trail, oldest first. A key that is lost or exchanged is replaced and its public key kept, so older checkpoints still verify;
newer ones by it do not, because keys may only follow each other in that order.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stockade.types import StockadeError

_END = b"-----END PUBLIC KEY-----"


class Signer:
    """An Ed25519 private key and its public name: 32 bytes in hex, as checkpoints carry it."""

    def __init__(self, key: Ed25519PrivateKey, paths: tuple[Path, Path] | None = None) -> None:
        self._key, self._paths = key, paths
        self._stamp = _stamp(paths[0]) if paths else None
        self.name = _name(key.public_key())

    @classmethod
    def at(cls, path: Path, public: Path) -> Signer:
        """Load the key at path, or make one there; its public key is added to `public`. Raises StockadeError."""
        try:
            signer = cls(_load(path) if os.path.lexists(path) else _create(path), (path, public))
            signer._publish(public)
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            hint = "move it away: a new one is made, and its public key added"
            raise StockadeError(f"cannot use the audit key {path}: {error}", hint=hint, code="audit_key") from error
        return signer

    def exchanged(self) -> Signer | None:
        """The key that has been put in this one's place, published; None when it is the same. Raises StockadeError."""
        if self._paths is None or (stamp := _stamp(self._paths[0])) in (None, self._stamp):
            return None
        other = Signer.at(*self._paths)
        if other.name == self.name:
            self._stamp = stamp
            return None
        return other

    def sign(self, message: bytes) -> str:
        """The signature, 64 bytes in hex."""
        return self._key.sign(message).hex()

    def _publish(self, path: Path) -> None:
        if path.exists() and path.stat().st_size and self.name in public_keys(path):
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "wb") as file:
            file.write(self._key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
            file.flush()
            os.fsync(fd)  # before anything is signed with it: a machine that dies must not leave checkpoints that nobody can check


def replace_key(path: Path) -> str:
    """Put a fresh key in the place of the one at path, at once. Returns its name. Raises StockadeError."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        key = _create(fresh)
        fresh.rename(path)
    except OSError as error:
        raise StockadeError(f"cannot write the audit key {path}: {error.strerror}", hint="run as root", code="audit_key") from error
    return _name(key.public_key())


def public_keys(path: Path) -> tuple[str, ...]:
    """The names of the public keys in a PEM file, oldest first. Raises StockadeError when it has none."""
    try:
        blocks = [block + _END for block in path.read_bytes().split(_END)[:-1]]
        keys = [serialization.load_pem_public_key(block) for block in blocks]
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise StockadeError(f"cannot read the public key {path}: {error}", hint="give the trail's PATH.pub", code="audit_key") from error
    names = tuple(_name(key) for key in keys if isinstance(key, Ed25519PublicKey))
    if not names:
        raise StockadeError(f"{path} holds no Ed25519 public key", hint="give the trail's PATH.pub", code="audit_key")
    return names


def signed(name: str, signature: str, message: bytes) -> bool:
    """Is this the signature of `name` over message? False for anything that is not even a key or a signature."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(name)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _stamp(path: Path) -> tuple[int, int] | None:
    """Which file is there."""
    try:
        about = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


def _name(key: Ed25519PublicKey) -> str:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def _load(path: Path) -> Ed25519PrivateKey:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if os.fstat(fd).st_mode & 0o077:
            raise ValueError("it can be read by others (chmod 600)")
        key = serialization.load_pem_private_key(file.read(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is not an Ed25519 key")
    return key


def _create(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
            file.flush()
            os.fsync(fd)
    except OSError:  # a full disk: half a key would be in the way of every start that follows
        path.unlink(missing_ok=True)
        raise
    return key
