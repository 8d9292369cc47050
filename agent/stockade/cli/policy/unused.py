"""`stockade policy unused`: rules and list entries that no record of a period needed."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path

from stockade.cli.choice import add_policies, chosen
from stockade.cli.trail import Trail, add_period
from stockade.cli.trail import chosen as chosen_trail
from stockade.policy import Policy
from stockade.types import StockadeError

SUMMARY = (
    "List rules and entries that no record needed: an allow by which nothing was allowed, a deny that refused nothing. "
    "Exit status: 0 none, 1 some or a damaged trail, 2 could not run."
)
EXAMPLES = """\
  stockade policy unused --audit audit.jsonl --policy my-policy.yaml --since 90d
  stockade policy unused --audit *.jsonl --policy my-policy.yaml --sandbox box-7f -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--audit", nargs="+", type=Path, required=True, metavar="FILE", help="audit trails")
    add_policies(parser)
    add_period(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    """Raises PolicyError and StockadeError for what cannot be read, and for a period without records."""
    from stockade.policy.making.unused import unused

    policy = chosen(args)
    trail = chosen_trail(args, args.audit)
    records = list(trail)
    if not records:
        raise StockadeError("no record of that sandbox and period", hint="stockade audit stats FILE", code="no_records")
    found = unused(records, policy)
    ours = sum(record["sandbox"]["policy"] == policy.name for record in records)
    if args.output == "json":
        rows = [
            {"path": one.place.path, "line": one.place.line, "rule": one.rule or None}
            | {"entry": None if one.entry is None else f"{one.entry.level.value}.{one.entry.list} {one.entry.text}", "why": one.why}
            for one in found
        ]
        covered = {"records": trail.records, "first": trail.first, "last": trail.last, "of_this_policy": ours, "asked_since": trail.since}
        print(json.dumps({"unused": rows, "covered": covered}, indent=2))
    else:
        for one in found:
            print(one)
    _say(trail, policy, ours, len(found))
    return 1 if found or trail.damaged else 0


def _say(trail: Trail, policy: Policy, ours: int, found: int) -> None:
    """What the answer rests on: a short trail must not be taken for the period that was asked for."""
    print(
        f"{found} unused, by {trail.records} records from {trail.first} to {trail.last} ({_days(trail.first, trail.last)})", file=sys.stderr
    )
    if trail.since and trail.first > trail.since:
        missing = _days(trail.since, trail.first)
        print(f"nothing is recorded in the first {missing} of the period: what was needed then is not known", file=sys.stderr)
    if not ours:
        print(f"none of these records was decided under a policy called {policy.name}", file=sys.stderr)


def _days(first: str, last: str) -> str:
    seconds = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    return f"{seconds / 86400:.1f} days"
