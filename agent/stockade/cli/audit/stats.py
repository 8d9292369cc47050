"""`stockade audit stats`: how many records, by what one asks for."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from stockade.audit.human import word
from stockade.audit.record import Json
from stockade.cli.audit.chosen import add_filters, add_output, add_trails, filters, records, trails

SUMMARY = "How many records there are, by action, decision and reason, or by what --by names."
EXAMPLES = """\
  stockade audit stats audit.jsonl
  stockade audit stats --decision deny --by binary,host,reason --top 20 --since 1d
"""

FIELDS = ("sandbox", "action", "decision", "reason", "level", "effect", "rule", "binary", "host", "port", "method", "generation")
_INSIDE = {
    "sandbox": ("sandbox", "name"),
    "generation": ("sandbox", "generation"),
    "binary": ("binary", "name"),
    "host": ("destination", "host"),
    "port": ("destination", "port"),
    "method": ("http", "method"),
}
ROWS = 100_000  # that are counted apart: a sandbox may ask for any number of hosts


def arguments(parser: argparse.ArgumentParser) -> None:
    add_trails(parser)
    parser.add_argument("--by", type=_fields, default=("action", "decision", "reason"), metavar="FIELD,…", help=", ".join(FIELDS))
    parser.add_argument("--top", type=int, metavar="N", help="only the most frequent")
    add_filters(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    counts: Counter[tuple[str, ...]] = Counter()
    beyond = 0
    for record in records(trails(args), filters(args)):
        key = tuple(_value(record, name) for name in args.by)
        if key not in counts and len(counts) >= ROWS:
            beyond += 1
        else:
            counts[key] += 1
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


def _value(record: Json, name: str) -> str:
    value: object = record
    for key in _INSIDE.get(name, (name,)):
        value = value.get(key) if isinstance(value, dict) else None
    return "-" if value is None else str(value)
