"""`stockade privacy`: what the detectors see, how well, and what they must know besides; a file per action."""

from __future__ import annotations

import argparse

from stockade.cli.actions import add_actions, run_action
from stockade.cli.privacy import canary, eval_, explain, register

SUMMARY = "Show what is sensitive in a text, measure the detectors, register confidential documents, plant canaries."

ACTIONS = {"explain": explain, "eval": eval_, "register": register, "canary": canary}

EXAMPLES = "".join(module.EXAMPLES for module in ACTIONS.values())


def arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)


run = run_action
