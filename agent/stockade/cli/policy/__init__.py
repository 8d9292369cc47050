"""`stockade policy`: everything one does with policy files, a file per action.

An action's module has SUMMARY, EXAMPLES, arguments(parser) and run(args) -> exit status, as a verb's has. All are imported to build the
parser: what only one of them needs is imported in its run().
"""

from __future__ import annotations

import argparse

from stockade.cli.actions import add_actions, run_action
from stockade.cli.policy import check, diff, import_, learn, schema, show, test, unused

SUMMARY = "Check policy files, test them, compare them, show what they compose into, and make them from what was seen or from others'."

ACTIONS = {"check": check, "test": test, "show": show, "diff": diff, "schema": schema, "unused": unused, "learn": learn, "import": import_}

EXAMPLES = "".join(module.EXAMPLES for module in ACTIONS.values())


def arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)


run = run_action
