"""`stockade kubernetes check`: whether a node would take policies, before a cluster is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = (
    "Say whether StockadePolicy and ClusterStockadePolicy resources in files load, field by field, without a cluster. "
    "Exit status: 0 they do, 1 something is wrong."
)
EXAMPLES = """\
  stockade kubernetes check policies/*.yaml
  kubectl get stp,cstp -A -o yaml | stockade kubernetes check -
  stockade kubernetes check policy.yaml --print            # the policy file that a node makes of it
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", type=Path, metavar="FILE", help="manifests, YAML or JSON, of several documents too; - for stdin")
    parser.add_argument("--print", action="store_true", help="print what a node makes of each, whose lines the status counts")


def run(args: argparse.Namespace) -> int:
    from stockade.kubernetes.manifests import checked

    wrong = False
    for file in args.file:
        for found in checked(file):
            if args.print:
                print(f"# {found.called}\n{found.text}")
            for problem in found.problems:
                wrong = True
                made = f", line {problem.made}" if args.print and problem.made else ""  # of what was just printed
                place = f"{file}:{problem.place.line}:{problem.place.column}"
                print(f"{place}: {found.called}: {problem.field}{made}: {problem.said}")
            if not found.problems and not args.print:
                print(f"{file}: {found.called}: loads")
    return 1 if wrong else 0
