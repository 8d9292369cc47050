"""`stockade audit verify`: is this trail what the agent wrote, all of it, in that order?"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from stockade.cli.audit.chosen import add_output
from stockade.types import StockadeError

SUMMARY = "Check every line of a trail: its hash, its place in the chain, the signatures, the pinned end."
EXAMPLES = """\
  stockade audit verify audit.jsonl
  stockade audit verify /var/log/stockade
  stockade audit verify audit.jsonl --key trusted.pub --head yesterday.head -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="TRAIL", help="a trail, with all of its files, or a directory of trails")
    parser.add_argument("--key", type=Path, metavar="PUB", help="public keys to trust, PEM (default: TRAIL.pub)")
    parser.add_argument("--head", type=Path, metavar="HEAD", help="a copy of TRAIL.head that the trail must contain (default: TRAIL.head)")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.audit.parts import trails

    found = trails(args.file)
    if not found:
        raise StockadeError(f"there is no trail in {args.file}", hint="name a trail, or the directory it is in", code="audit_unreadable")
    if args.head is not None and len(found) > 1:
        raise StockadeError(f"{args.file} holds {len(found)} trails, and --head is of one", hint="name that one", code="audit_unreadable")
    return max(_verify(trail, args) for trail in found)


def _verify(trail: Path, args: argparse.Namespace) -> int:
    from stockade.audit.verify import verify

    verdict = verify(trail, args.key, head=args.head)
    if args.output == "json":
        print(json.dumps(asdict(verdict), default=str))
    elif verdict.ok:
        files = f" in {verdict.files} files" if verdict.files > 1 else ""
        removed = f" ({verdict.removed} removed, as a signed record says)" if verdict.removed else ""
        counts = f"{verdict.records} records{files}{removed}, {verdict.checkpoints} checkpoints, {verdict.unsigned} records not signed yet"
        print(f"{trail}: ok, {counts}")
    else:
        print(f"{verdict.file}:{verdict.first_bad_line}: {verdict.problem}")
    if not verdict.pinned_key:
        print("no public key to compare with: whoever can write the file could have signed it (--key PUB)", file=sys.stderr)
    return 0 if verdict.ok else 1
