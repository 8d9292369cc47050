"""`stockade kubernetes`: what runs in a cluster, a file per action."""

from __future__ import annotations

import argparse

from stockade.cli.actions import add_actions, run_action
from stockade.cli.kubernetes import webhook

SUMMARY = "What runs in a Kubernetes cluster beside the agents of its nodes."
ACTIONS = {"webhook": webhook}
EXAMPLES = "".join(module.EXAMPLES for module in ACTIONS.values())


def arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    return run_action(args)
