"""`stockade policy schema`: the format of policies, for editors and other tools."""

from __future__ import annotations

import argparse

SUMMARY = "Print the JSON Schema of policies, for editors and for checks without Stockade; `policy check` knows more."
EXAMPLES = """\
  stockade policy schema > policy.schema.json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("json",), default="json", help="how to print")


def run(args: argparse.Namespace) -> int:
    from stockade.policy.format.json_schema import as_text

    print(as_text(), end="")
    return 0
