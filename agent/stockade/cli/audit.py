"""`stockade audit`: check a trail and read it."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from stockade.audit.human import human_line, word
from stockade.audit.read import FILTERS, Broken, Filter, read
from stockade.audit.record import Json
from stockade.audit.verify import verify

SUMMARY = "Verify and read an audit trail. Exit status: 0 fine, 1 damaged or nothing found, 2 could not run."
EXAMPLES = """\
  stockade audit verify audit.jsonl
  stockade audit verify audit.jsonl --key trusted.pub --head yesterday.head -o json
  stockade audit tail -f audit.jsonl --decision deny
  stockade audit grep audit.jsonl --host '*.slack.com' --binary curl -o json
  stockade audit show audit.jsonl --seq 41
  stockade audit stats audit.jsonl
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="audit_verb", metavar="WHAT", required=True)
    one = verbs.add_parser("verify", help="is this file what the agent wrote, all of it, in that order?")
    one.add_argument("--key", type=Path, metavar="PUB", help="public keys to trust, PEM (default: FILE.pub)")
    one.add_argument("--head", type=Path, metavar="HEAD", help="a copy of FILE.head that the trail must contain (default: FILE.head)")
    one = verbs.add_parser("tail", help="the last records, one line each")
    one.add_argument("-n", type=int, default=20, metavar="N", help="how many (default: 20)")
    one.add_argument("-f", "--follow", action="store_true", help="go on with those that come")
    verbs.add_parser("grep", help="all records that match")
    one = verbs.add_parser("show", help="one record, whole")
    one.add_argument("--seq", type=int, required=True, metavar="N")
    verbs.add_parser("stats", help="how many, by action, decision and reason")
    for name, one in verbs.choices.items():
        one.add_argument("file", type=Path, metavar="FILE")
        one.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")
        if name in ("tail", "grep", "stats"):
            for field in FILTERS:
                one.add_argument(f"--{field}", metavar="PATTERN" if field in ("host", "binary") else field.upper())


def run(args: argparse.Namespace) -> int:
    """Raises StockadeError when the file cannot be read."""
    try:
        return {"verify": _verify, "tail": _tail, "grep": _tail, "show": _show, "stats": _stats}[args.audit_verb](args)
    except KeyboardInterrupt:  # how one leaves tail -f
        return 0


def _verify(args: argparse.Namespace) -> int:
    verdict = verify(args.file, args.key, head=args.head)
    if args.output == "json":
        print(json.dumps(asdict(verdict)))
    elif verdict.ok:
        print(f"{args.file}: ok, {verdict.records} records, {verdict.checkpoints} checkpoints, {verdict.unsigned} records not signed yet")
    else:
        print(f"{args.file}:{verdict.first_bad_line}: {verdict.problem}")
    if not verdict.pinned_key:
        print("no public key to compare with: whoever can write the file could have signed it (--key PUB)", file=sys.stderr)
    return 0 if verdict.ok else 1


def _tail(args: argparse.Namespace) -> int:
    last, follow = (args.n, args.follow) if args.audit_verb == "tail" else (None, False)
    found = False
    for record in _records(args, last=last, follow=follow):
        found = True
        print(json.dumps(record) if args.output == "json" else f"{record['seq']} {record['time']} {human_line(record)}", flush=follow)
    return 0 if found or args.audit_verb == "tail" else 1


def _show(args: argparse.Namespace) -> int:
    for record in _records(args):
        if record["seq"] == args.seq:
            print(json.dumps(record, indent=None if args.output == "json" else 2))
            return 0
    print(f"no record {args.seq} in {args.file}", file=sys.stderr)
    return 1


def _stats(args: argparse.Namespace) -> int:
    counts = Counter((str(one["action"]), str(one["decision"]), str(one["reason"])) for one in _records(args))
    rows = [
        {"action": action, "decision": decision, "reason": reason, "records": n} for (action, decision, reason), n in counts.most_common()
    ]
    if args.output == "json":
        print(json.dumps(rows))
    else:
        for row in rows:
            print(f"{row['records']:>8}  {word(row['action']):<10} {word(row['decision']):<6} {word(row['reason'])}")
    return 0 if rows else 1


def _records(args: argparse.Namespace, *, last: int | None = None, follow: bool = False) -> Iterator[Json]:
    wanted = Filter(**{name: getattr(args, name, None) for name in FILTERS})
    for record in read(args.file, wanted, last=last, follow=follow):
        if isinstance(record, Broken):
            print(f"{args.file}:{record.number}: {record.problem} (stockade audit verify {args.file})", file=sys.stderr)
        else:
            yield record
