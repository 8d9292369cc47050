"""The file of what must be known again: fingerprints of registered documents and digests of canaries. Root's alone, and no text in it.

The daemon reads it as root and hands its bytes to the classifier, which has another uid and no way to the file.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
import secrets
import sys
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockade.privacy.documents.fingerprint import Fingerprints, fingerprint
from stockade.privacy.patterns.canary import Canaries
from stockade.types import StockadeError

PATH = Path("/var/lib/stockade/privacy/registry.json")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    name: str
    added: str
    shingles: array[int]


@dataclass(frozen=True, slots=True)
class Canary:
    name: str
    added: str
    digest: str


@dataclass(slots=True)
class Registry:
    """Documents and canaries that were registered. key: of the fingerprints, so that they tell nobody else anything."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    documents: dict[str, Document] = field(default_factory=dict)
    canaries: dict[str, Canary] = field(default_factory=dict)

    def register(self, name: str, text: str, now: str) -> Document:
        """Raises ValueError for a text too short. The same text again takes the place of itself."""
        marks = fingerprint(text, self.key)
        number = next((entry.id for entry in self.documents.values() if entry.shingles == marks), None) or "doc-" + secrets.token_hex(4)
        self.documents[number] = Document(number, name, now, marks)
        return self.documents[number]

    def fingerprints(self) -> Fingerprints:
        return Fingerprints({number: entry.shingles for number, entry in self.documents.items()}, self.key)

    def known_canaries(self) -> Canaries:
        return Canaries({entry.digest: entry.name for entry in self.canaries.values()})

    def to_bytes(self) -> bytes:
        """As `load` reads it: fingerprints and digests, and no text."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "key": _packed(self.key),
            "documents": [
                {"id": entry.id, "name": entry.name, "added": entry.added, "shingles": _packed(_little(entry.shingles).tobytes())}
                for entry in self.documents.values()
            ],
            "canaries": [{"name": entry.name, "added": entry.added, "digest": entry.digest} for entry in self.canaries.values()],
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Registry:
        """Raises ValueError: what cannot be read is no empty registry."""
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}: this version reads {FORMAT}")
            documents = {}
            for entry in document["documents"]:
                marks = array("Q")
                marks.frombytes(base64.b64decode(entry["shingles"], validate=True))
                documents[str(entry["id"])] = Document(str(entry["id"]), str(entry["name"]), str(entry["added"]), _little(marks))
            canaries = {
                str(entry["name"]): Canary(str(entry["name"]), str(entry["added"]), str(entry["digest"])) for entry in document["canaries"]
            }
            return cls(base64.b64decode(document["key"], validate=True), documents, canaries)
        except (KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise ValueError(f"no registry: {error}") from None


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _little(marks: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return marks
    swapped = array("Q", marks)
    swapped.byteswap()
    return swapped


def load(path: Path = PATH) -> Registry:
    """The registry, an empty one where there is no file. Raises StockadeError where it cannot be read: the documents in it would go
    unseen.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Registry()
    except OSError as error:
        raise StockadeError(f"cannot read {path}: {error.strerror}", hint="it is root's: try as root", code="privacy_registry") from None
    try:
        return Registry.from_bytes(data)
    except ValueError as error:
        raise StockadeError(
            f"{path} is damaged: {error}",
            hint=f"restore it from a backup, or remove it and register again: sudo rm {path}",
            code="privacy_registry",
        ) from None


@contextmanager
def changed(path: Path = PATH) -> Iterator[Registry]:
    """The registry under a lock, written back whole and at once when the block ends without an error. Raises StockadeError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.parent / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StockadeError(
            f"cannot write below {path.parent}: {error.strerror}", hint="it is root's: try as root", code="privacy_registry"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        registry = load(path)
        yield registry
        try:
            _replace(path, registry.to_bytes())
        except OSError as error:
            hint = "nothing was changed: what was registered before still is"
            raise StockadeError(f"cannot write {path}: {error.strerror}", hint=hint, code="privacy_registry") from None
    finally:
        os.close(lock)


def _replace(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".registry.")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
