"""`stockade audit stats`: how many records, by what one asks for."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from stockade.audit.glance import Columns, meant
from stockade.audit.human import word
from stockade.cli.audit.chosen import add_filters, add_output, add_trails, fields_of, filters, trails

SUMMARY = "How many records there are, by action, decision and reason, or by what --by names."
EXAMPLES = """\
  stockade audit stats audit.jsonl
  stockade audit stats --decision deny --by binary,host,reason --top 20 --since 1d
"""

FIELDS = (
    *("sandbox", "action", "decision", "reason", "level", "effect", "rule", "binary", "host", "port", "method", "generation"),
    *("namespace", "pod"),
)
ROWS = 100_000  # that are counted apart: a sandbox may ask for any number of hosts


def arguments(parser: argparse.ArgumentParser) -> None:
    add_trails(parser)
    parser.add_argument("--by", type=_fields, default=("action", "decision", "reason"), metavar="FIELD,…", help=", ".join(FIELDS))
    parser.add_argument("--top", type=int, metavar="N", help="only the most frequent")
    add_filters(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    spelt: Counter[Columns] = Counter()
    beyond = 0
    for found in fields_of(trails(args), filters(args), args.by):
        if found not in spelt and len(spelt) >= ROWS:
            beyond += 1
        else:
            spelt[found] += 1
    counts: Counter[tuple[str, ...]] = Counter()
    for fields, count in spelt.items():
        counts[tuple("-" if value is None else str(value) for value in map(meant, fields))] += count
    rows = counts.most_common(args.top)
    if args.output == "json":
        print(json.dumps([{**dict(zip(args.by, key, strict=True)), "records": count} for key, count in rows]))
    else:
        widths = [max([len(word(key[at])) for key, _ in rows] or [0]) for at in range(len(args.by))]
        for key, count in rows:
            print(f"{count:>8}  {'  '.join(word(each).ljust(width) for each, width in zip(key, widths, strict=True))}".rstrip())
    if beyond:
        print(f"{beyond} more records, in groups beyond the first {ROWS}", file=sys.stderr)
    return 0 if rows else 1


def _fields(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if wrong := [name for name in names if name not in FIELDS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no field; accepted: {', '.join(FIELDS)}")
    return names
