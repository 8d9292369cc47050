"""`stockade audit`: everything one does with a trail, a file per action, as in cli/policy."""

from __future__ import annotations

import argparse

from stockade.cli.actions import add_actions, run_action
from stockade.cli.audit import export, grep, report, rotate_key, ship, show, stats, tail, verify

SUMMARY = "Read, explain, verify, export and report an audit trail. Exit status: 0 fine, 1 damaged or nothing found, 2 could not run."

ACTIONS = {
    "tail": tail,
    "grep": grep,
    "show": show,
    "stats": stats,
    "verify": verify,
    "export": export,
    "report": report,
    "ship": ship,
    "rotate-key": rotate_key,
}

EXAMPLES = "".join(module.EXAMPLES for module in ACTIONS.values())


def arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Raises StockadeError when a trail cannot be read."""
    try:
        return run_action(args)
    except KeyboardInterrupt:  # how one leaves tail -f
        return 0
