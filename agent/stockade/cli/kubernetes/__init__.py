"""`stockade kubernetes`: what runs in a cluster, a file per action."""

from __future__ import annotations

import argparse

from stockade.cli.actions import add_actions, run_action
from stockade.cli.kubernetes import agent, check, webhook

SUMMARY = "What runs in a Kubernetes cluster: the agent of each node, and what gives pods their sandbox's CA."
ACTIONS = {"agent": agent, "check": check, "webhook": webhook}
EXAMPLES = "".join(module.EXAMPLES for module in ACTIONS.values())


def arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    return run_action(args)
