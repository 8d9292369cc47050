"""A verb with several actions: `stockade VERB ACTION`. An action is a module with what a verb has: SUMMARY, EXAMPLES, arguments, run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType


def add_actions(parser: argparse.ArgumentParser, modules: Mapping[str, ModuleType]) -> None:
    actions = parser.add_subparsers(dest="action", metavar="|".join(modules), required=True)
    for name, module in modules.items():
        action = actions.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog="examples:\n" + module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(action)
        action.set_defaults(act=module.run)


def run_action(args: argparse.Namespace) -> int:
    """The exit status of the action that was asked for."""
    status: int = args.act(args)
    return status
