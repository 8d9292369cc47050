"""`stockade privacy canary`: a secret to be planted in a sandbox and found when it leaves. Its hash is kept, never the secret."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from stockade.types import StockadeError

SUMMARY = "Make a marked secret to plant in a sandbox's environment or files; it is always found as credential.canary."
EXAMPLES = """\
  export DEPLOY_TOKEN=$(sudo stockade privacy canary billing-bot)
  sudo stockade privacy canary --list
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from stockade.cli.privacy.detectors import add_registry

    parser.add_argument("name", nargs="?", metavar="NAME", help="what the records call it, such as where it is planted")
    parser.add_argument("--list", action="store_true", help="say which were made")
    parser.add_argument("--remove", metavar="NAME", help="forget one: it is still found, as unregistered")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.privacy.documents.registry import Canary, changed, load
    from stockade.privacy.patterns.canary import digest, make

    if args.name:
        if not args.name.isprintable() or len(args.name) > 60 or any(character in ": \t" for character in args.name):
            raise StockadeError(f"{args.name!r} is no name", hint="up to 60 characters without spaces and colons", code="bad_name")
        secret = make()
        with changed(args.registry) as registry:
            if args.name in registry.canaries:
                raise StockadeError(f"a canary {args.name!r} exists", hint="take another name, or --remove it first", code="exists")
            registry.canaries[args.name] = Canary(args.name, datetime.now(UTC).isoformat(timespec="seconds"), digest(secret))
        print(json.dumps({"name": args.name, "canary": secret}) if args.output == "json" else secret)
        return 0
    if args.remove:
        with changed(args.registry) as registry:
            if registry.canaries.pop(args.remove, None) is None:
                raise StockadeError(f"no canary {args.remove!r} was made", hint="stockade privacy canary --list", code="unknown_canary")
        return 0
    if not args.list:
        raise StockadeError("nothing to do", hint="give a name, --list or --remove NAME", code="usage")
    made = load(args.registry).canaries.values()
    if args.output == "json":
        print(json.dumps([{"name": one.name, "added": one.added} for one in made], indent=2))
    else:
        for one in made:
            print(f"{one.name}\t{one.added}")
    return 0
