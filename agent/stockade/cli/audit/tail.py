"""`stockade audit tail`: the last records, and those that come."""

from __future__ import annotations

import argparse
import json

from stockade.audit.human import human_line
from stockade.audit.record import Json
from stockade.cli.audit.chosen import add_filters, add_output, add_trails, filters, records, trails
from stockade.types import StockadeError

SUMMARY = "The last records, one line each; with -f also those that come, across rotation."
EXAMPLES = """\
  stockade audit tail -f audit.jsonl --decision deny
  stockade audit tail -n 5 --sandbox box-1 -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_trails(parser)
    parser.add_argument("-n", type=int, default=20, metavar="N", help="how many of each trail (default: 20)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with those that come")
    add_filters(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    found = trails(args)
    if args.follow and len(found) != 1:
        said = ", ".join(map(str, found[:5]))
        raise StockadeError("one trail can be followed, not several", hint=f"name one of {said}", code="several_trails")
    for record in records(found, filters(args), last=max(0, args.n), follow=args.follow):
        print(shown(record, args.output), flush=args.follow)
    return 0


def shown(record: Json, output: str) -> str:
    """One line, whatever is in the record."""
    return json.dumps(record) if output == "json" else f"{record['seq']} {record['time']} {human_line(record)}"
