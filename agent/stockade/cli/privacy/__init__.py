"""`stockade privacy`: what the detectors see, how well, and what they must know besides; a file per action."""

from __future__ import annotations

import argparse

from stockade.cli.privacy import canary, eval_, explain, register

SUMMARY = "Show what is sensitive in a text, measure the detectors, register confidential documents, plant canaries."

ACTIONS = {"explain": explain, "eval": eval_, "register": register, "canary": canary}

EXAMPLES = "".join(module.EXAMPLES for module in ACTIONS.values())


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="|".join(ACTIONS), required=True)
    for name, module in ACTIONS.items():
        action = actions.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog="examples:\n" + module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(action)
        action.set_defaults(act=module.run)


def run(args: argparse.Namespace) -> int:
    status: int = args.act(args)
    return status
