"""`stockade policy check`: every problem of each file."""

from __future__ import annotations

import argparse
import json
import sys

from stockade.policy import Policy, PolicyError, Problem, load

SUMMARY = "Print every problem of each file. Exit status: 0 fine, 1 one does not load, 2 one cannot be read."
EXAMPLES = """\
  stockade policy check my-policy.yaml
  stockade policy check -o json *.yaml
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="each is a policy of its own here")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    problems: list[Problem] = []
    loaded: list[Policy] = []
    for file in args.files:
        try:
            policy = load([file])
        except PolicyError as error:
            problems += error.problems
        else:
            loaded.append(policy)
            problems += policy.warnings
    if args.output == "json":
        print(json.dumps([_fields(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            print(problem)
        errors = sum(problem.severity == "error" for problem in problems)
        print(f"{len(args.files)} checked, {errors} errors, {len(problems) - errors} warnings", file=sys.stderr)
    if any(problem.code == "unreadable" and not problem.line for problem in problems):
        return 2
    return 0 if len(loaded) == len(args.files) else 1


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
