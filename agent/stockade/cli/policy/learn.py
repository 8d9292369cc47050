"""`stockade policy learn`: the smallest policy that would have allowed what an audit trail saw."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from stockade.cli.policy.out import add_out, hand_out
from stockade.cli.trail import add_period, chosen
from stockade.types import StockadeError

SUMMARY = (
    "Print the smallest policy that would have allowed what a trail saw, mostly of a run with --observe, with the requests per line. "
    "Exit status: 0 fine, 1 something was seen and not learnt or a trail is damaged, 2 could not run."
)
EXAMPLES = """\
  stockade policy learn audit.jsonl --name my-agent --out my-agent.yaml
  stockade policy learn *.jsonl --sandbox box-7f --since 12h
  stockade policy learn audit.jsonl -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="AUDIT", help="audit trails")
    add_period(parser)
    parser.add_argument("--name", default="learnt", metavar="N", help="the policy's name (default: learnt)")
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="json: {policy, remarks}")
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    """Raises StockadeError for what cannot be read or written, and for a trail in which nothing can be learnt."""
    from stockade.policy.making.learn import learn
    from stockade.policy.making.writing import as_json, as_yaml

    trail = chosen(args, args.files)
    records = list(trail)
    if not records:
        raise StockadeError("no record of that sandbox and period", hint="stockade audit stats FILE", code="no_records")
    notes = (
        f"Learnt from {trail.records} records of {', '.join(file.name for file in args.files)}, {trail.first} to {trail.last}.",
        "What was seen is what is allowed, no more than that was meant: read each line before you sign it off.",
    )
    learnt = learn(records, name=args.name, notes=notes)
    for remark in learnt.remarks:
        print(remark, file=sys.stderr)
    if args.output == "json":
        text = json.dumps({"policy": as_json(learnt.policy), "remarks": [asdict(remark) for remark in learnt.remarks]}, indent=2) + "\n"
    else:
        text = as_yaml(learnt.policy)
    hand_out(text, args.out)
    print(f"{trail.records} records, {len(learnt.policy.rules)} rules, {len(learnt.remarks)} things not learnt", file=sys.stderr)
    return 1 if learnt.remarks or trail.damaged else 0
