"""`stockade policy import`: a policy of NVIDIA OpenShell or a preset of NemoClaw as one of ours."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from stockade.cli.policy.out import add_out, hand_out

SUMMARY = (
    "Print an OpenShell policy or a NemoClaw preset as a Stockade policy, never looser than it was, and what could not be carried over. "
    "Exit status: 0 all of it was, 1 something was left out or narrowed, 2 it could not be read."
)
EXAMPLES = """\
  stockade policy import openshell.yaml --out agent.yaml
  stockade policy import presets/slack.yaml --binary node
  stockade policy import presets/jira.yaml --binary node --host acme.atlassian.net
  stockade policy import openshell.yaml -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="policy (version: 1) or preset (preset: …) in their format")
    parser.add_argument("--binary", action="append", default=[], metavar="B", help="who uses the entries that name no binary; repeatable")
    parser.add_argument(
        "--host", action="append", default=[], metavar="H", help="a host that a pattern like *.example.com means; repeatable"
    )
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="json: {policy, losses}")
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    """Raises StockadeError for what cannot be read or written."""
    from stockade.policy import PolicyError
    from stockade.policy.making.openshell import Loss, import_file
    from stockade.policy.making.writing import as_json, as_yaml

    try:
        imported = import_file(args.file, binaries=args.binary, hosts=args.host)
    except PolicyError as error:  # its hint is for policies of ours
        print(error, file=sys.stderr)
        return 2
    for loss in imported.losses:
        print(loss, file=sys.stderr)

    def fields(loss: Loss) -> dict[str, Any]:
        place = {"path": loss.place.path, "line": loss.place.line, "column": loss.place.column}
        return {"kind": loss.kind, "code": loss.code, "message": loss.message, **place}

    if args.output == "json":
        text = json.dumps({"policy": as_json(imported.policy), "losses": [fields(loss) for loss in imported.losses]}, indent=2) + "\n"
    else:
        text = as_yaml(imported.policy)
    hand_out(text, args.out)
    left_out = sum(loss.kind == "left_out" for loss in imported.losses)
    rules = len(imported.policy.rules)
    print(f"{args.file}: {rules} rules, {left_out} left out, {len(imported.losses) - left_out} narrowed", file=sys.stderr)
    return 1 if imported.losses else 0
