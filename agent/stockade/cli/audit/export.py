"""`stockade audit export`: records in the form of another system, a line each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from stockade.audit.record import Json
from stockade.cli.audit.chosen import add_filters, add_trails, filters, records, trails
from stockade.types import StockadeError

SUMMARY = "Records in the form of another system, one line each: native JSON, OCSF, ECS or CEF."
EXAMPLES = """\
  stockade audit export audit.jsonl --format ocsf > events.jsonl
  stockade audit export --format cef --decision deny --since 1d --to denied.cef
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from stockade.audit.formats import BY_NAME

    add_trails(parser)
    parser.add_argument("--format", choices=list(BY_NAME), default="json", help="json is the record itself (default)")
    parser.add_argument("--to", type=Path, metavar="FILE", help="a new file, readable by its owner (default: stdout)")
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    found, wanted = trails(args), filters(args)
    if args.to is None:
        return 0 if _written(args.format, records(found, wanted), sys.stdout.buffer) else 1
    try:
        descriptor = os.open(args.to, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StockadeError(f"--to {args.to}: {error.strerror}", hint="name a file that is not there yet", code="bad_export") from error
    with os.fdopen(descriptor, "wb") as file:
        count = _written(args.format, records(found, wanted), file)
    print(f"{args.to}: {count} records", file=sys.stderr)
    return 0 if count else 1


def _written(form: str, found: Iterable[Json], out: BinaryIO) -> int:
    """How many."""
    from stockade.audit.formats import line

    count = 0
    for record in found:
        out.write(line(form, record) + b"\n")
        count += 1
    out.flush()
    return count
