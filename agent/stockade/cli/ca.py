"""`stockade ca`: who signs the certificates that running sandboxes are shown, and the next key for them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from stockade.cli.actions import add_named
from stockade.types import StockadeError

SUMMARY = (
    "Show what sandboxes trust and what signs for them, or have another key sign from now on: it comes under the same root, so nothing "
    "inside notices. Exit status: 0 done, 1 a key could not be renewed or an attempt has failed, 2 there was nobody to ask."
)
EXAMPLES = """\
  stockade ca show
  stockade ca show box-0 -o json | jq -r '.[].until'
  stockade ca rotate box-0
  stockade ca rotate                        # of every sandbox that runs on this machine
"""

_ROWS = {"root": "trusts", "signed_by": "signed by", "serial": "serial", "good_for": "good for", "until": "expires", "due": "renewed from"}


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = {
        "show": "what sandboxes trust, and what signs for them",
        "rotate": "have another key sign from now on",
    }
    for action in add_named(parser, "ca", actions, EXAMPLES).values():
        action.add_argument("sandbox", nargs="*", metavar="NAME", help="which (default: all that run)")
        action.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    from stockade.cli.sandboxes import chosen
    from stockade.service.control import ask
    from stockade.service.settings import Settings

    directory, found, failed = Settings().control, list[dict[str, Any]](), False
    for name in chosen(directory, args.sandbox):
        try:
            found.append({"sandbox": name, **ask(directory, name, "authority" if args.action == "show" else "rotate")})
        except StockadeError as error:
            if args.action == "show" or not error.code.startswith("ca_"):
                raise
            print(f"{name}: the key before goes on: {error.message} [{error.code}]", file=sys.stderr)
            failed = True
            if error.code == "ca_pin":
                print("no other sandbox was asked: a token locks after a few wrong PINs", file=sys.stderr)
                break
    if args.output == "json":
        print(json.dumps(found, indent=2))
    for each in found if args.output == "text" else ():
        print(_told(each) if args.action == "show" else f"{each['sandbox']}: {each['serial']} signs until {each['until']}")
    return 1 if failed or any(each.get("why") for each in found) else 0


def _told(each: dict[str, Any]) -> str:
    rows = [f"  {said:13} {each[key]}" for key, said in _ROWS.items()]
    if each["why"]:
        rows.append(f"  ! not renewed: {each['why']}")
    return "\n".join([each["sandbox"], *rows])
