"""`stockade run`: one command, held to a policy."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    parser.add_argument("--policy", action="append", type=Path, default=[], metavar="FILE", help="a policy file; several compose")
    parser.add_argument("--preset", action="append", default=[], metavar="NAME", help="a shipped preset, see `stockade presets`")
    parser.add_argument("--name", help="the sandbox's name in every record")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="goes into every record")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="the writable directory (default: the current one)")
    parser.add_argument("--bind", action="append", default=[], metavar="SRC[:DST][:ro]", help="show a host path in the sandbox")
    parser.add_argument("--audit", type=Path, metavar="FILE", help="the audit trail (default: /var/log/stockade/NAME.jsonl)")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the settings file (default: /etc/stockade/stockade.yaml, if there)")
    parser.add_argument("--metrics", metavar="ADDRESS", help="serve metrics there, as 127.0.0.1:9464; port 0 is any that is free")
    parser.add_argument("--approvals", type=Path, metavar="FILE", help="keeps what is approved for always; made if it is missing")
    parser.add_argument("--embedded", action="store_true", help="by an agent of its own, also where a daemon runs")
    parser.add_argument("--observe", action="store_true", help="decide and record, but refuse nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="say every decision on stderr")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command and its arguments")


def run(args: argparse.Namespace) -> int:
    from stockade.policy import DEFAULT
    from stockade.service.embedded import run as run_embedded
    from stockade.service.order import Order
    from stockade.service.settings import Settings
    from stockade.settings import configured

    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise StockadeError("no command given", hint="stockade run [--policy FILE] -- CMD", code="no_command")
    policies = tuple(args.policy)
    if not policies and not args.preset:
        import sys

        policies = (DEFAULT,)
        print(f"stockade: no policy given, so {DEFAULT.name} is in force", file=sys.stderr)
    order = Order(
        command=tuple(command),
        policies=policies,
        presets=tuple(args.preset),
        name=args.name,
        labels=tuple(_pair(label) for label in args.label),
        workdir=args.workdir,
        binds=tuple(_bind(bind) for bind in args.bind),
        audit=args.audit,
        settings=args.settings,
        approvals=args.approvals,
        metrics=args.metrics,
        observe=args.observe,
        verbose=args.verbose,
    )
    own = args.embedded or order.audit or order.settings or order.metrics or order.verbose  # what only an agent of its own can do
    if not own:
        from stockade.daemon.socket import found

        if (daemon := found(Settings())) is not None:
            from stockade.daemon.client import run as run_by_daemon

            return run_by_daemon(order, daemon)
    return run_embedded(order, Settings.of(configured(args.settings)))


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise StockadeError(f"--label {text}: not KEY=VALUE", code="bad_label")
    return key, value


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
