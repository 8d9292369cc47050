"""Where a policy that was made goes: `--out FILE`, or stdout."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stockade.types import StockadeError


def add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead of on stdout")


def hand_out(text: str, out: Path | None) -> None:
    """Raises StockadeError when the file cannot be written."""
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StockadeError(f"cannot write {out}: {error.strerror}", hint="name another --out", code="unwritable") from None
