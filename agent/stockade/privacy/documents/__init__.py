"""Layer c: what a document is as a whole. Code and configuration by their lines; registered confidential documents by fingerprint."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.privacy.documents import language
from stockade.privacy.documents.fingerprint import Fingerprints
from stockade.privacy.finding import Finding
from stockade.privacy.version import of_code


class Documents:
    """Fingerprints are read in every view of a text; they cost nothing where none is registered."""

    name = "document"
    reads_views = True

    def __init__(self, fingerprints: Fingerprints | None = None) -> None:
        self._fingerprints = fingerprints or Fingerprints()
        self.version = f"{of_code('documents')}+{self._fingerprints.version}"

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [sorted([*language.find(text), *self._fingerprints.find(text)]) for text in texts]
