"""`stockade policy show`: what files and presets compose into."""

from __future__ import annotations

import argparse
import json

from stockade.cli.choice import add_policies, chosen, policy_file
from stockade.policy.format.show import as_json, as_text

SUMMARY = "Print the effective policy as one file that loads to the same, each line with the file and line it comes from."
EXAMPLES = """\
  stockade policy show my-policy.yaml
  stockade policy show --policy my-policy.yaml --preset npm
  stockade policy show --policy my-policy.yaml -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="FILE", help="a policy, or presets/NAME: the same as --policy")
    add_policies(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    args.policy += [str(policy_file(path)) for path in args.paths]
    policy = chosen(args)
    print(json.dumps(as_json(policy), indent=2) if args.output == "json" else as_text(policy), end="" if args.output == "text" else "\n")
    return 0
