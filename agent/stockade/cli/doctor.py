"""`stockade doctor`: what this machine can enforce, found out by doing it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from stockade.kernel.probe import Answer, kernel_findings

SUMMARY = (
    "Say what this kernel and machine can enforce. Exits with 1 when something `stockade run` needs is missing, 2 when it could not tell."
)
EXAMPLES = """\
  stockade doctor
  stockade doctor --settings ./stockade.yaml           # its signing CA, and the disk of its trails
  stockade doctor -o json | jq '.[] | select(.answer != "available")'
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the settings file (default: /etc/stockade/stockade.yaml, if there)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    from stockade.service.machine import findings
    from stockade.service.settings import Settings
    from stockade.settings import configured

    # without the option a settings file that cannot be read is a finding among others
    asked = Settings.of(configured(args.settings)) if args.settings is not None else None
    found = [*findings(settings=asked), *kernel_findings()]
    if args.output == "json":
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            print(f"{finding.answer.value:14} {finding.name}" + (f": {finding.detail}" if finding.detail else ""))
            if finding.answer is not Answer.AVAILABLE and finding.hint:
                print(f"{'':14} hint: {finding.hint}")
    needed = {finding.answer for finding in found if finding.fatal}
    if Answer.MISSING in needed:
        return 1
    return 2 if Answer.UNKNOWN in needed else 0
