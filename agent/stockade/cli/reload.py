"""`stockade reload`: running sandboxes read their policies again."""

from __future__ import annotations

import argparse
import json
import sys

SUMMARY = (
    "Running sandboxes read their policies again, all at once or not at all. A policy that does not load, or that changes what is fixed at "
    "start, changes nothing. Exit status: 0 switched, 1 a policy was refused, 2 there was nobody to ask."
)
EXAMPLES = """\
  stockade reload                                   # every sandbox that runs on this machine
  stockade reload --sandbox box-1
  stockade reload --sandbox box-1 -o json | jq .[0].generation
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sandbox", action="append", default=[], metavar="NAME", help="which; may be given several times")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    from stockade.cli.sandboxes import chosen
    from stockade.service.control import ask
    from stockade.service.settings import Settings

    directory = Settings().control
    answers = [{"sandbox": name, **ask(directory, name, "reload")} for name in chosen(directory, args.sandbox)]
    if args.output == "json":
        print(json.dumps(answers, indent=2))
    for answer in answers:
        if not answer["switched"]:
            print(f"{answer['sandbox']}: generation {answer['generation']} stays in force:\n{answer['why']}", file=sys.stderr)
        elif args.output == "text":
            print(f"{answer['sandbox']}: generation {answer['generation']} is in force")
    return 0 if all(answer["switched"] for answer in answers) else 1
