"""`stockade top`: running sandboxes, live.

Reading order: board (what lies between two looks) · screen (the lines) · terminal · here the loop.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from stockade.cli.top.board import Board, Sample
from stockade.cli.top.screen import VIEWS, Choice, draw
from stockade.types import StockadeError

SUMMARY = "Show what running sandboxes do, live: who reaches what, what is refused and why, how long it takes. `?` lists the keys."
EXAMPLES = """\
  stockade top
  stockade top box-0 --view refusals
  stockade top --once                        # one look, as text
  stockade top --once -o json | jq .activity
  stockade top -o json -i 10                 # a line of JSON every ten seconds
"""

_WIDE, _LONG = 160, 60  # of one look as text


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sandbox", nargs="*", help="names (default: all that run, also those that start later)")
    parser.add_argument("-i", "--interval", type=_interval, default=1.0, metavar="SECONDS", help="between two looks (default 1)")
    parser.add_argument("--view", choices=VIEWS, default="activity", help="what to begin with (default: activity)")
    parser.add_argument("--once", action="store_true", help="two looks, one interval apart, and what lies between them")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from stockade.service.settings import Settings

    directory = Settings().control
    if args.once or args.output == "json":
        return _looks(directory, args)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise StockadeError("top needs a terminal", hint="stockade top --once, or -o json", code="no_terminal")
    return _live(directory, args)


def _looks(directory: Path, args: argparse.Namespace) -> int:
    before = _look(directory, args.sandbox)
    while True:
        time.sleep(args.interval)
        now = _look(directory, args.sandbox)
        board = Board(before, now)
        if args.output == "json":
            print(json.dumps(board.json(), indent=2 if args.once else None), flush=True)
        else:
            rows = draw(board, Choice(view=args.view), _clock(), _WIDE, _LONG)[:-1]  # without the keys
            print("\n".join(row.text.rstrip() for row in rows).rstrip())
        if args.once:
            return 0
        before = now


def _live(directory: Path, args: argparse.Namespace) -> int:
    from stockade.cli.top.terminal import Terminal

    choice, before, now = Choice(view=args.view), None, _look(directory, args.sandbox)
    board, clock, due = Board(before, now), _clock(), time.monotonic() + args.interval
    with Terminal() as terminal:
        while not terminal.ended:
            terminal.show(draw(board, choice, clock, *terminal.size))
            for key in terminal.keys(due - time.monotonic()):
                if key == "q" and not choice.typing:
                    return 0
                choice = choice.pressed(key)
            if time.monotonic() >= due:
                due = time.monotonic() + args.interval
                if not choice.paused:
                    before, now = now, _look(directory, args.sandbox)
                    board, clock = Board(before, now), _clock()
    return 0


def _look(directory: Path, named: Sequence[str]) -> Sample:
    """Raises StockadeError when one that was named does not run, or none may be asked."""
    from stockade.service.control import ask, running

    answers = {}
    for name in named or running(directory):
        try:
            answer = ask(directory, name, "statistics")
        except StockadeError as error:
            if error.code != "control" and (named or error.code == "not_root"):
                raise
            continue  # it has just ended, or has no time for us
        answers[answer["id"]] = answer | {"asked": time.time()}
    return Sample(time.monotonic(), answers)


def _clock() -> str:
    return datetime.now().strftime("%H:%M:%S")


def _interval(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise ValueError
    return seconds
