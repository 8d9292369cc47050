"""`stockade run`: one command, held to a policy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stockade.cli.ordered import add_order, daemon_for, order_of
from stockade.types import StockadeError

SUMMARY = "Run a command, and all it starts, held to a policy. Exits with the command's status; 125 when Stockade itself failed."
EXAMPLES = """\
  stockade run --preset pypi -- pip install --target deps six
  stockade run --policy agent.yaml --workdir ~/project -v -- bash
  stockade run --policy agent.yaml --observe -- claude       # decide and record, refuse nothing
  stockade run --policy agent.yaml --approvals approved.yaml --name box -- claude
  stockade approvals list                                    # what it was refused and a person may let pass
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_order(parser, "the sandbox's name in every record")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="the writable directory (default: the current one)")
    parser.add_argument("--bind", action="append", default=[], metavar="SRC[:DST][:ro]", help="show a host path in the sandbox")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command and its arguments")


def run(args: argparse.Namespace) -> int:
    from stockade.policy import DEFAULT
    from stockade.service.embedded import run as run_embedded
    from stockade.service.settings import Settings
    from stockade.settings import configured

    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise StockadeError("no command given", hint="stockade run [--policy FILE] -- CMD", code="no_command")
    if not args.policy and not args.preset:
        args.policy = [DEFAULT]
        print(f"stockade: no policy given, so {DEFAULT.name} is in force", file=sys.stderr)
    order = order_of(args, tuple(command), workdir=args.workdir, binds=tuple(_bind(bind) for bind in args.bind))
    if (daemon := daemon_for(order, args.embedded)) is not None:
        from stockade.daemon.client import run as run_by_daemon

        return run_by_daemon(order, daemon)
    return run_embedded(order, Settings.of(configured(args.settings)))


def _bind(text: str) -> tuple[str, str, bool]:
    words = text.split(":")
    writable = True
    if len(words) > 1 and words[-1] in ("ro", "rw"):
        writable = words.pop() == "rw"
    source = str(Path(words[0]).absolute())
    target = words[1] if len(words) > 1 else source
    if len(words) > 2 or not target.startswith("/"):
        raise StockadeError(f"--bind {text}: not SRC[:DST][:ro]", code="bad_bind")
    return source, target, writable
