"""`stockade audit grep`: all records that match."""

from __future__ import annotations

import argparse

from stockade.cli.audit.chosen import add_filters, add_output, add_trails, filters, records, trails
from stockade.cli.audit.tail import shown

SUMMARY = "All records that match every filter, oldest first."
EXAMPLES = """\
  stockade audit grep audit.jsonl --host '*.slack.com' --binary curl -o json
  stockade audit grep --namespace 'team-*' --pod 'agent-*' --decision deny
  stockade audit grep --sandbox box-1 --decision deny --since 2h
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_trails(parser)
    add_filters(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    found = False
    for record in records(trails(args), filters(args)):
        found = True
        print(shown(record, args.output))
    return 0 if found else 1
