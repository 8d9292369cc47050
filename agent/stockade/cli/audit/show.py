"""`stockade audit show`: one record by the name that a refusal carries, and why it was decided so."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from stockade.audit.explain import explain, place_of
from stockade.audit.find import Place, find
from stockade.audit.human import word
from stockade.audit.record import record_id
from stockade.cli.audit.chosen import add_output, add_trails, trails
from stockade.types import StockadeError

SUMMARY = "One record by its name, as a refusal carries it under `record`: what was asked, what became of it, why, and what can be done."
EXAMPLES = """\
  stockade audit show 41-9f3ac2d1e0b4
  stockade audit show 41-9f3ac2d1e0b4 audit.jsonl -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("record", metavar="RECORD", help="41-9f3ac2d1e0b4, the beginning of its hash, or its seq in one trail")
    add_trails(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    where = trails(args)
    found = find(args.record, where)
    if not found:
        looked = str(where[0]) if len(where) == 1 else f"the {len(where)} trails that were looked through"
        print(f"no record {args.record} in {looked}", file=sys.stderr)
        if not args.trail:
            hint = "a trail that --audit put elsewhere is found while its sandbox runs; afterwards name it"
            print(f"{hint}: stockade audit show {args.record} TRAIL", file=sys.stderr)
        return 1
    if len(found) > 1:
        names = ", ".join(f"{record_id(each.record)} in {each.trail}" for each in found[:5])
        raise StockadeError(f"{len(found)} records are called {args.record}", hint=f"one of {names}", code="several_records")
    (place,) = found
    print(json.dumps(_json(place)) if args.output == "json" else "\n".join(_text(place)))
    return 0


def _json(place: Place) -> dict[str, object]:
    return {
        "id": record_id(place.record),
        "trail": str(place.trail),
        "file": str(place.file),
        "line": place.line,
        "explanation": asdict(explain(place.record, place.policy)),
        "record": place.record,
    }


def _text(place: Place) -> Iterator[str]:
    record, said = place.record, explain(place.record, place.policy)
    binary, sandbox = record["binary"], record["sandbox"]
    yield f"{record_id(record)}: {said.outcome}"
    rows = [("asked", said.asked), ("why", f"{said.why} ({record['reason']})"), ("", said.level), ("do", said.hint)]
    if said.rule:
        rows.append(("rule", said.rule.removesuffix(f" ({place_of(said.rule)})")))
        rows.append(("", place_of(said.rule)))
    rows.append(("policy", said.policy))
    rows.append(
        ("sandbox", f"{sandbox['name']} {sandbox['id']} " + " ".join(f"{key}={value}" for key, value in sorted(sandbox["labels"].items())))
    )
    if binary is not None:
        rows.append(("program", f"{binary['script'] or binary['path']}" + (f", pid {record['pid']}" if record["pid"] is not None else "")))
        rows.append(("", f"sha256 {binary['sha256']}" if binary["sha256"] else ""))
        rows.append(("", f"identity {binary['identity']}" if binary["identity"] != "strong" else ""))
    if record["ancestry"]:
        rows.append(("from", " < ".join(record["ancestry"])))
    for name, value in sorted(record["detail"].items()):
        if name not in ("began", "rules", "terms", "sources"):
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    rows.append(("time", record["time"]))
    rows.append(("trail", f"{place.file}:{place.line}"))
    rows.append(("", f"hash {record['hash']}"))
    for name, value in rows:
        if value:
            yield f"  {_safe(name):9} {_safe(value)}"


def _safe(text: str) -> str:
    """Spaces are kept; whatever could move the cursor, turn the line around or begin another is spelt out."""
    return " ".join(word(part) if part else "" for part in text.rstrip().split(" "))
