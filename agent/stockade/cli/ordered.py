"""What `run` and `attach` ask alike: which policy, under which name, and where its evidence goes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockade.types import StockadeError

if TYPE_CHECKING:
    from stockade.service.order import Order


def add_order(parser: argparse.ArgumentParser, name: str) -> None:
    """name: the help for --name."""
    parser.add_argument("--policy", action="append", type=Path, default=[], metavar="FILE", help="a policy file; several compose")
    parser.add_argument("--preset", action="append", default=[], metavar="NAME", help="a shipped preset, see `stockade presets`")
    parser.add_argument("--name", help=name)
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="goes into every record")
    parser.add_argument("--audit", type=Path, metavar="FILE", help="the audit trail (default: /var/log/stockade/NAME.jsonl)")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the settings file (default: /etc/stockade/stockade.yaml, if there)")
    parser.add_argument("--metrics", metavar="ADDRESS", help="serve metrics there, as 127.0.0.1:9464; port 0 is any that is free")
    parser.add_argument("--approvals", type=Path, metavar="FILE", help="keeps what is approved for always; made if it is missing")
    parser.add_argument("--observe", action="store_true", help="decide and record, but refuse nothing")
    parser.add_argument("--embedded", action="store_true", help="by an agent of its own, also where a daemon runs")
    parser.add_argument("-v", "--verbose", action="store_true", help="say every decision on stderr")


def order_of(args: argparse.Namespace, command: tuple[str, ...] = (), **more: Any) -> Order:
    """more: what of an Order only one of the two asks for. Raises StockadeError."""
    from stockade.service.order import Order

    alike = {name: getattr(args, name) for name in ("name", "audit", "settings", "approvals", "metrics", "observe", "verbose")}
    labels = tuple(_pair(label) for label in args.label)
    return Order(command=command, policies=tuple(args.policy), presets=tuple(args.preset), labels=labels, **alike | more)


def daemon_for(order: Order, embedded: bool) -> Path | None:
    """The socket of the daemon that is to be asked; None where there is none, or what is wanted only an agent of its own can do."""
    from stockade.service.listening import answers
    from stockade.service.settings import Settings

    if embedded or order.audit or order.settings or order.metrics or order.verbose or os.geteuid() != 0:
        return None
    return path if answers(path := Settings().daemon) else None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise StockadeError(f"--label {text}: not KEY=VALUE", code="bad_label")
    return key, value
