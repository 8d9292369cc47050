"""`stockade status`: which sandboxes run, under what, since when, and how it goes."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import Any

from stockade.cli.top.text import plain

SUMMARY = (
    "Say which sandboxes run: policy, generation, workers, counts, and whether something is wrong, as one that is held and has no agent. "
    "Exit 1 when something is. For root; through a daemon also for members of the group stockade."
)
EXAMPLES = """\
  stockade status
  stockade status box-0 -o json
  watch -n 5 stockade status
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sandbox", nargs="*", help="names (default: all that run)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from stockade.daemon import overview
    from stockade.service.settings import Settings

    told = overview.overview(Settings(), list(dict.fromkeys(args.sandbox)))
    found = [_of(each["status"], each["statistics"]) if "status" in each else _unserved(each) for each in told["sandboxes"]]
    if wrong := overview.problems(told["daemon"]):
        found.append({"sandbox": "daemon", "problems": wrong})
    if args.output == "json":
        print(json.dumps(found, indent=2))
    elif not found:
        print("no sandbox is running", file=sys.stderr)
    else:
        print(f"{'SANDBOX':16} {'POLICY':20} {'GEN':>4} {'MODE':8} {'SINCE':20} {'PROC':>5} {'CONN':>5} {'ALLOWED':>8} {'REFUSED':>8}")
    for each in found if args.output == "text" else ():
        print(_line(each) if "policy" in each else plain(each["sandbox"], 16))
        for problem in each["problems"]:
            print(f"  ! {problem}")
        if each.get("metrics"):
            print(f"  metrics at {each['metrics']}")
    return 1 if any(each["problems"] for each in found) else 0


def _line(each: dict[str, Any]) -> str:
    return (
        f"{plain(each['sandbox'], 16)} {plain(each['policy'], 20)} {each['generation']:>4} {each['mode']:8} {each['since']:20}"
        f" {each['processes']:>5} {sum(each['connections'].values()):>5} {each['allowed']:>8} {each['denied'] - each['unenforced']:>8}"
    )


def _unserved(each: dict[str, Any]) -> dict[str, Any]:
    return {"sandbox": each["sandbox"], "problems": [each["problem"]]}


def _of(status: dict[str, Any], statistics: dict[str, Any]) -> dict[str, Any]:
    since = datetime.fromtimestamp(statistics["since"], UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    kept = ("processes", "workers", "workers_lost", "connections", "allowed", "denied", "unenforced", "sent", "received", "events_lost")
    return status | {name: statistics[name] for name in kept} | {"since": since, "problems": problems(statistics)}


def problems(statistics: dict[str, Any]) -> list[str]:
    """What somebody should look at, in words."""
    found = []
    if not statistics["workers"]:
        found.append("no proxy worker serves it: its connections wait for the next one")
    if statistics["authority_failing"]:
        found.append("the key that signs its certificates could not be renewed (stockade ca show says why)")
    if statistics["audit_broken"]:
        found.append("a record could not be written: see on_audit_failure in its policy")
    if statistics["audit_missed"]:
        found.append(f"{statistics['audit_missed']} records could not be written: a later one has the count")
    if statistics["audit_lost"]:
        found.append(f"{statistics['audit_lost']} records were given up by a sink; they are in the trail")
    if statistics["reload_failed"]:
        found.append("the policy on disk was refused: an older one is in force (stockade reload says why)")
    if statistics["events_lost"]:
        found.append(f"{statistics['events_lost']} events of the kernel's are on no record of their own")
    return found
