"""`stockade policy`: check policy files, show what they compose into."""

from __future__ import annotations

import argparse
import json
import sys

from stockade.policy import DEFAULT, Policy, PolicyError, Problem, load
from stockade.policy.show import as_json, as_text

SUMMARY = "Check policy files, and show the policy that they compose into."

EXAMPLES = """\
  stockade policy check my-policy.yaml
  stockade policy check -o json *.yaml
  stockade policy show --policy my-policy.yaml --preset npm
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="check|show", required=True)
    check = actions.add_parser("check", help="print every problem of each file; exit 1 when one does not load")
    check.add_argument("files", nargs="+", metavar="FILE")
    show = actions.add_parser("show", help="print the effective policy, with where each rule comes from")
    show.add_argument("--policy", action="append", default=[], metavar="P", help="policy file; may be given several times")
    show.add_argument("--preset", action="append", default=[], metavar="N", help="shipped preset; may be given several times")
    for action in (check, show):
        action.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    if args.action == "check":
        return _check(args.files, args.output)
    policy = load(args.policy or ([] if args.preset else [DEFAULT]), presets=args.preset)
    print(json.dumps(as_json(policy), indent=2) if args.output == "json" else as_text(policy))
    return 0


def _check(files: list[str], output: str) -> int:
    """Each file is a policy of its own here. Exit status 0 fine, 1 errors, 2 a file could not be read."""
    problems: list[Problem] = []
    loaded: list[Policy] = []
    for file in files:
        try:
            policy = load([file])
        except PolicyError as error:
            problems += error.problems
        else:
            loaded.append(policy)
            problems += policy.warnings
    if output == "json":
        print(json.dumps([_fields(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            print(problem)
        errors = sum(problem.severity == "error" for problem in problems)
        print(f"{len(files)} checked, {errors} errors, {len(problems) - errors} warnings", file=sys.stderr)
    if any(problem.code == "unreadable" and not problem.line for problem in problems):
        return 2
    return 0 if len(loaded) == len(files) else 1


def _fields(problem: Problem) -> dict[str, str | int]:
    return {
        "path": problem.path,
        "line": problem.line,
        "column": problem.column,
        "severity": problem.severity,
        "code": problem.code,
        "message": problem.message,
        "accepted": problem.accepted,
    }
