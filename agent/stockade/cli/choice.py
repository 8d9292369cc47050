"""The options by which every verb is told which policy is meant: --policy and --preset, each as often as wanted."""

from __future__ import annotations

import argparse
from pathlib import Path

from stockade.policy import DEFAULT, Policy, load
from stockade.policy.presets import preset_path


def add_policies(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", action="append", default=[], metavar="P", help="policy file; may be given several times")
    parser.add_argument("--preset", action="append", default=[], metavar="N", help="shipped preset; may be given several times")


def chosen(args: argparse.Namespace) -> Policy:
    """The policy that was asked for, the default when none was. Raises PolicyError."""
    return load(args.policy or ([] if args.preset else [DEFAULT]), presets=args.preset)


def policy_file(text: str) -> Path:
    """The file that one argument names: a path, or presets/NAME where there is no such path."""
    path = Path(text)
    return path if path.exists() else preset_path(text) or path
