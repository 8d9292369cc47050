"""The layers as a command has them: all, or all but the model where its files are not there, which is said aloud."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from stockade.privacy.classify import Classifier
from stockade.privacy.documents import Documents
from stockade.privacy.documents.registry import PATH, Registry, load
from stockade.privacy.finding import Detector
from stockade.privacy.patterns import Credentials, Patterns
from stockade.types import StockadeError


def add_registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registry", type=Path, default=PATH, metavar="FILE", help=f"the registry of documents and canaries ({PATH})")


def classifier(registry: Path) -> tuple[Classifier, list[str]]:
    """All layers, and what is missing of them. Each thing missing has been said on stderr."""
    missing: list[str] = []
    known = _registry(registry, missing)
    detectors: list[Detector] = [Patterns(), Credentials(known.known_canaries()), Documents(known.fingerprints())]
    try:
        from stockade.privacy.ner import TokenModel

        detectors.append(TokenModel.load())
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        missing.append("model")
        print(f"stockade: WITHOUT THE MODEL: names, places and diagnoses in prose are not found ({error})", file=sys.stderr)
    return Classifier(detectors), missing


def _registry(path: Path, missing: list[str]) -> Registry:
    try:
        return load(path)
    except StockadeError as error:
        if os.geteuid() == 0 or path != PATH:
            raise
        missing.append("registry")
        print(f"stockade: WITHOUT THE REGISTRY: registered documents are not found ({error.message})", file=sys.stderr)
        return Registry()


def read_text(name: str) -> str:
    """A file, or standard input for `-`; what is no UTF-8 is replaced where it stands. Raises StockadeError for what cannot be read."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise StockadeError(
            f"cannot read {name}: {error.strerror}", hint="give a file, or - for standard input", code="unreadable"
        ) from None
    return data.decode(errors="replace")
