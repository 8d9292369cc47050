"""`stockade audit verify`: is this trail what the agent wrote, all of it, in that order?"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from stockade.cli.audit.chosen import add_output

SUMMARY = "Check every line of a trail: its hash, its place in the chain, the signatures, the pinned end."
EXAMPLES = """\
  stockade audit verify audit.jsonl
  stockade audit verify audit.jsonl --key trusted.pub --head yesterday.head -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="TRAIL")
    parser.add_argument("--key", type=Path, metavar="PUB", help="public keys to trust, PEM (default: TRAIL.pub)")
    parser.add_argument("--head", type=Path, metavar="HEAD", help="a copy of TRAIL.head that the trail must contain (default: TRAIL.head)")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.audit.verify import verify

    verdict = verify(args.file, args.key, head=args.head)
    if args.output == "json":
        print(json.dumps(asdict(verdict), default=str))
    elif verdict.ok:
        print(f"{args.file}: ok, {verdict.records} records, {verdict.checkpoints} checkpoints, {verdict.unsigned} records not signed yet")
    else:
        print(f"{args.file}:{verdict.first_bad_line}: {verdict.problem}")
    if not verdict.pinned_key:
        print("no public key to compare with: whoever can write the file could have signed it (--key PUB)", file=sys.stderr)
    return 0 if verdict.ok else 1
