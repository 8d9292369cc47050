"""`stockade audit ship`: deliver to the sinks what no agent delivers any more."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from stockade.cli.audit.chosen import add_output

SUMMARY = (
    "Deliver records that still wait in trails whose sandbox has ended, to the sinks of the settings file. A sink that an agent delivers "
    "to is left to it. A sink that has not seen a trail yet gets all of it. Exit status: 0 everything is delivered, 1 something is not."
)
EXAMPLES = """\
  stockade audit ship /var/log/stockade
  stockade audit ship /var/log/stockade/box-1.jsonl --settings siem.yaml --wait 60
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="TRAIL", help="trails, or directories of them")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the settings file (default: /etc/stockade/stockade.yaml)")
    parser.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="how long for receivers (default: 30)")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.audit.file import AuditError
    from stockade.audit.parts import trails
    from stockade.audit.sinks.cursor import Position
    from stockade.audit.sinks.process import deliver, standing
    from stockade.settings import configured
    from stockade.types import StockadeError

    sinks = configured(args.settings).audit.sinks
    if not sinks:
        raise StockadeError("the settings name no sink", hint="audit: {sinks: […]}; docs/audit-sinks.md", code="no_sink")
    whole = True
    for trail in (trail for file in args.files for trail in trails(file)):
        for rules in sinks:
            try:
                ((delivery, thread),) = deliver(trail, [rules], Position())
            except AuditError as error:
                if "being written" not in error.message:
                    raise
                print(f"{trail}: {rules.name} is delivered to by an agent", file=sys.stderr)
                continue
            before = delivery.sent
            delivery.stop(args.wait)
            thread.join()
            said = standing(delivery, tell=False)
            whole = whole and not said["behind"]
            if args.output == "json":
                print(json.dumps({"trail": str(trail), **said, "now": delivery.sent - before}))
            else:
                left = f"{said['behind']} octets wait: {said['failing']}" if said["behind"] else "nothing waits"
                print(f"{trail}: {rules.name}: {delivery.sent - before} records delivered, {said['lost']} lost in all, {left}")
    return 0 if whole else 1
