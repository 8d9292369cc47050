"""A verb with several actions: `stockade VERB ACTION`. An action is a module with what a verb has (SUMMARY, EXAMPLES, arguments, run), or,
where all of them are one module's, a name in `args.action`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType


def add_actions(parser: argparse.ArgumentParser, modules: Mapping[str, ModuleType]) -> None:
    """Actions that are modules, each as a verb is: SUMMARY, EXAMPLES, arguments and run, which becomes args.act."""
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


def add_named(parser: argparse.ArgumentParser, verb: str, said: Mapping[str, str], examples: str) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of actions, by name. said: a line on each. examples: of the verb; each action shows its own."""
    actions = parser.add_subparsers(dest="action", metavar="|".join(said), required=True)
    return {
        name: actions.add_parser(
            name,
            help=line,
            description=line[0].upper() + line[1:] + ".",
            epilog="examples:\n" + "".join(f"{each}\n" for each in examples.splitlines() if f"{verb} {name}" in each),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, line in said.items()
    }


def run_action(args: argparse.Namespace) -> int:
    """The exit status of the action that was asked for."""
    status: int = args.act(args)
    return status
