"""`stockade approvals`: what sandboxes were refused and a person may let pass."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from stockade.cli.actions import add_named
from stockade.types import StockadeError

SUMMARY = (
    "List, approve and deny what running sandboxes were refused because no rule speaks of it. What a rule denies cannot be approved. "
    "Exit status: 0 done, 1 there is no such approval, or it cannot be approved, 2 there was nobody to ask."
)
EXAMPLES = """\
  stockade approvals list
  stockade approvals show k3x9m2p7q4wz
  stockade approvals approve k3x9m2p7q4wz                        # this one request, once
  stockade approvals approve k3x9m2p7q4wz --for 1h               # until then, then it is closed again
  stockade approvals approve k3x9m2p7q4wz --always               # into the file that `stockade run --approvals` named
  stockade approvals approve k3x9m2p7q4wz --method GET --method HEAD --path '/v1/items/*'
  stockade approvals deny k3x9m2p7q4wz                           # takes back what was approved, too
  stockade approvals list --sandbox box-1 -o json
"""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NOBODY = frozenset({"no_sandbox", "not_root", "control", "bad_name", "version"})

Json = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = {
        "list": "what waits, and what was answered",
        "show": "all that is known of one",
        "approve": "let it pass",
        "deny": "refuse it for good, or take back an approval",
    }
    for name, action in add_named(parser, "approvals", actions, EXAMPLES).items():
        action.add_argument("--sandbox", action="append", default=[], metavar="NAME", help="which; may be given several times")
        action.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")
        if name != "list":
            action.add_argument("id", metavar="ID", help="as it stands in the 403, in the record, and in `list`")
        if name == "approve":
            term = action.add_mutually_exclusive_group()
            term.add_argument("--once", action="store_true", help="one request (the default)")
            term.add_argument("--for", dest="seconds", type=_duration, metavar="TIME", help="30s, 15m, 1h, 7d")
            term.add_argument("--always", action="store_true", help="keep it in the file of `stockade run --approvals`")
            action.add_argument("--method", action="append", default=[], metavar="M", help="instead of the method that was refused")
            action.add_argument("--path", action="append", default=[], metavar="GLOB", help="instead of the path that was refused")
            action.add_argument("--port", type=int, metavar="N", help="where only a name was asked for (default: 443)")


def run(args: argparse.Namespace) -> int:
    from stockade.cli.sandboxes import chosen
    from stockade.service.settings import Settings

    directory = Settings().control
    names = chosen(directory, args.sandbox)
    if args.action == "list":
        return _list(directory, names, args.output)
    try:
        name, approval = _find(directory, names, args.id)
        answer = {"sandbox": name, **approval} if args.action == "show" else _answer(directory, name, args)
    except StockadeError as error:
        if error.code in _NOBODY:
            raise
        print(f"stockade: {error.message} [{error.code}]" + (f"\n  hint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2) if args.output == "json" else _told(answer))
    return 0


def _list(directory: Path, names: list[str], output: str) -> int:
    from stockade.service.control import ask

    answers = {name: ask(directory, name, "approvals") for name in names}
    rows = [{"sandbox": name, **approval} for name, answer in answers.items() for approval in answer["approvals"]]
    if output == "json":
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        print(f"{row['id']}  {row['state']:<8}  {row['sandbox']}  {_wanted(row)}  ×{row['count']}  {row['last_seen']}")
    waiting = sum(row["state"] == "pending" for row in rows)
    dropped = sum(int(answer["dropped"]) for answer in answers.values())
    print(f"{waiting} pending" + (f", {dropped} had to make room" if dropped else ""), file=sys.stderr)
    return 0


def _find(directory: Path, names: list[str], identifier: str) -> tuple[str, Json]:
    """The sandbox that has it. Raises StockadeError."""
    from stockade.service.control import ask

    for name in names:
        for approval in ask(directory, name, "approvals", id=identifier)["approvals"]:
            return name, approval
    raise StockadeError(f"no approval {identifier} in {', '.join(names)}", hint="stockade approvals list", code="no_approval")


def _answer(directory: Path, name: str, args: argparse.Namespace) -> Json:
    from stockade.service.control import ask

    if args.action == "deny":
        answer = ask(directory, name, "deny", id=args.id)
    else:
        term = "always" if args.always else "once" if args.seconds is None else "for"
        more = {"methods": args.method, "paths": args.path, "seconds": args.seconds or 0, "port": args.port}
        answer = ask(directory, name, "approve", id=args.id, term=term, **more)
    return {"sandbox": name, **answer["approval"], "generation": answer["generation"]}


def _told(answer: Json) -> str:
    if "generation" not in answer:
        return "\n".join(f"{key}: {value}" for key, value in answer.items() if value is not None)
    term = f"until {answer['ends']}" if answer["ends"] else answer["term"]
    state = f"{answer['state']} ({term})" if answer["state"] == "approved" else answer["state"]
    return f"{answer['id']} is {state}: {_wanted(answer)}; generation {answer['generation']} of {answer['sandbox']} is in force"


def _wanted(row: Json) -> str:
    at = row["host"] if row["port"] is None else f"{row['host']}:{row['port']}"
    return " ".join(word for word in (row["binary"], "->", at, row["method"] or "", row["path"] or "") if word)


def _duration(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 30s, 15m, 1h, 7d")
    return int(found[1]) * _SECONDS[found[2]]
