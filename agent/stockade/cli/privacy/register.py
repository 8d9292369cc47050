"""`stockade privacy register`: confidential documents to be known again, whole or in part. Fingerprints are kept, never the text."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from stockade.types import StockadeError

SUMMARY = "Register confidential documents by fingerprint, list them, or remove them."
EXAMPLES = """\
  sudo stockade privacy register formula.txt roadmap.md
  sudo stockade privacy register --list
  sudo stockade privacy register --remove doc-1b0f1d61
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from stockade.cli.privacy.detectors import add_registry

    parser.add_argument("files", nargs="*", metavar="FILE", help="a text; - for standard input")
    parser.add_argument("--list", action="store_true", help="say what is registered")
    parser.add_argument("--remove", action="append", default=[], metavar="ID", help="forget a document")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.cli.privacy.detectors import read_text
    from stockade.privacy.documents.registry import changed, load

    if not (args.files or args.list or args.remove):
        raise StockadeError("nothing to do", hint="give files, --list or --remove ID", code="usage")
    if args.files or args.remove:
        texts = [(name, read_text(name)) for name in args.files]
        with changed(args.registry) as registry:
            for number in args.remove:
                if registry.documents.pop(number, None) is None:
                    raise StockadeError(
                        f"no document {number!r} is registered", hint="stockade privacy register --list", code="unknown_document"
                    )
            for name, text in texts:
                try:
                    registry.register(Path(name).name, text, datetime.now(UTC).isoformat(timespec="seconds"))
                except ValueError as error:
                    raise StockadeError(f"{name}: {error}", hint="nothing was registered", code="too_short") from None
    documents = load(args.registry).documents.values()
    if args.output == "json":
        print(
            json.dumps([{"id": one.id, "name": one.name, "added": one.added, "shingles": len(one.shingles)} for one in documents], indent=2)
        )
    else:
        for one in documents:
            print(f"{one.id}\t{one.added}\t{len(one.shingles)} shingles\t{one.name}")
    return 0
