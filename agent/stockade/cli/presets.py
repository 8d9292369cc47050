"""`stockade presets`: the policies that ship with Stockade."""

from __future__ import annotations

import argparse
import json

from stockade.policy import presets

SUMMARY = "List the policies that ship with Stockade; `--preset NAME` and `extends: [presets/NAME]` use them."

EXAMPLES = """\
  stockade presets
  stockade presets -o json
  stockade policy show --preset pypi
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print the list")


def run(args: argparse.Namespace) -> int:
    shipped = presets()
    if args.output == "json":
        print(json.dumps([{"name": preset.name, "summary": preset.summary, "path": str(preset.path)} for preset in shipped], indent=2))
        return 0
    width = max((len(preset.name) for preset in shipped), default=0)
    for preset in shipped:
        print(f"{preset.name:<{width}}  {preset.summary}")
    return 0
