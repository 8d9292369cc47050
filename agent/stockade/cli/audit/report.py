"""`stockade audit report`: one page of what a sandbox did in a period, for somebody who has to sign for it."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from stockade.audit.read import Broken, Filter, read
from stockade.audit.record import Json, timestamp
from stockade.cli.audit.chosen import add_output, add_trails, trails
from stockade.cli.trail import moment
from stockade.types import StockadeError

SUMMARY = (
    "One HTML page for each sandbox and period: counts, timeline, what was refused and why, which policy was in force when, whether the "
    "trail is whole, how policy and sandbox meet OWASP's agentic risks. Exit status 1: the trail is damaged, or nothing was found."
)
EXAMPLES = """\
  stockade audit report --sandbox box-1 --to report.html
  stockade audit report audit.jsonl --since 2026-11-24 --until 2026-11-25 --framework hipaa --to reports/
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from stockade.audit.report import FRAMEWORKS

    add_trails(parser)
    parser.add_argument("--sandbox", metavar="NAME", help="its name or id (default: every one, a page each)")
    parser.add_argument("--since", metavar="WHEN", help="from then on: 10m, 2h, 7d, 2026-11-01, 2026-11-01T09:00:00Z")
    parser.add_argument("--until", metavar="WHEN", help="before then")
    parser.add_argument("--framework", choices=list(FRAMEWORKS), help="for which of its controls the records are evidence")
    parser.add_argument("--to", type=Path, default=Path(), metavar="FILE|DIR", help="a page, or a directory for pages (default: here)")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.audit.report import gather, page
    from stockade.audit.verify import verify

    since, until = (moment(value, option) if value else "" for value, option in ((args.since, "--since"), (args.until, "--until")))
    wanted = Filter(sandbox=args.sandbox, own=True, since=since or None, until=until or None)
    made: list[Json] = []
    sound = True
    for trail in trails(args):
        damaged: list[Broken] = []
        cases = list(gather(_sound(read(trail, wanted), damaged)))
        if not cases:
            continue
        verdict = verify(trail)
        sound = sound and verdict.ok and not damaged
        if args.to.suffix and len(cases) + len(made) > 1:
            named = ", ".join(f"{case.name} {case.id}" for case in cases[:5])
            hint = "--to a directory, or --sandbox with an id"
            raise StockadeError(f"{len(cases)} sandboxes are on record, and --to is one file: {named}", hint=hint, code="several_sandboxes")
        for case in cases:
            text = page(
                case,
                [(trail, verdict)],
                made=timestamp(),
                since=since,
                until=until,
                framework=args.framework,
                damaged=len(damaged),
            )
            path = _written(args.to, f"stockade-{_plain(case.name)}-{_plain(case.id)}.html", text)
            counts = {name: case.decisions[name] for name in ("allowed", "refused", "observed", "redact", "local", "alerts")}
            made.append(
                {
                    "page": str(path),
                    "sandbox": case.name,
                    "id": case.id,
                    "records": case.records,
                    "first": case.first,
                    "last": case.last,
                    "verified": verdict.ok and not damaged,
                    **counts,
                }
            )
    if args.output == "json":
        print(json.dumps(made))
    for each in made if args.output == "text" else ():
        print(
            f"{each['page']}: {each['records']} records, {each['refused']} refused" + ("" if each["verified"] else ", the trail is DAMAGED")
        )
    if not made:
        print("no record of such a sandbox in that period", file=sys.stderr)
    return 0 if made and sound else 1


def _sound(records: Iterator[Json | Broken], damaged: list[Broken]) -> Iterator[Json]:
    """What is no record is said, and kept in damaged as long as there are few."""
    for record in records:
        if isinstance(record, Broken):
            damaged.append(record)
            if len(damaged) <= 20:
                print(f"{record.file}:{record.number}: {record.problem} (stockade audit verify)", file=sys.stderr)
        else:
            yield record


def _written(to: Path, name: str, text: str) -> Path:
    """Whole or not at all, readable by its owner. Raises StockadeError."""
    path = to if to.suffix else to / name
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        fresh.rename(path)
    except OSError as error:
        raise StockadeError(f"cannot write {path}: {error.strerror}", hint="--to a place that can be written", code="bad_report") from error
    return path


def _plain(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text)[:64] or "sandbox"
