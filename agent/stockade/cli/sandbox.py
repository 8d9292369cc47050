"""`stockade sandbox`: which there are on this machine, and ending one."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

from stockade.types import StockadeError

SUMMARY = (
    "Sandboxes of this machine. `running` has an agent; `orphaned` has none any more: its agent was killed. It lives, held to what it may "
    "execute, and reaches nothing, until `stockade adopt`. Exit status: 0 fine, 2 could not run."
)
EXAMPLES = """\
  stockade sandbox ls
  stockade sandbox ls -o json | jq -r '.[] | select(.state == "orphaned").name'
  stockade sandbox kill box-1
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="sandbox_verb", metavar="WHAT", required=True)
    verbs.add_parser("ls", help="all of them; clears away what is left of those that ended without an agent")
    one = verbs.add_parser("kill", help="end one, with everything in it")
    one.add_argument("name", metavar="NAME")
    for each in verbs.choices.values():
        each.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise StockadeError("stockade sandbox needs root", hint="sudo stockade sandbox …", code="not_root")
    return _kill(args.name, args.output) if args.sandbox_verb == "kill" else _list(args.output)


def _list(output: str) -> int:
    from stockade.kernel.load import mounted_bpffs
    from stockade.service.control import ask, running
    from stockade.service.orphans import orphans
    from stockade.service.settings import Settings

    settings = Settings()
    found: list[dict[str, Any]] = []
    for name in running(settings.control):
        try:
            answer = ask(settings.control, name, "status")
        except StockadeError as error:  # it ended just now, or its agent is stuck
            print(f"{name}: {error.message}", file=sys.stderr)
            continue
        found.append({"name": name, "state": "running", "id": answer["id"], "agent": answer["pid"], "policy": answer["policy"]})
    for orphan in orphans(settings, mounted_bpffs(settings.run / "bpf")):
        header = orphan.header
        if header is None:
            found.append({"name": orphan.name, "state": "orphaned", "problem": orphan.problem})
            continue
        since = datetime.fromtimestamp(header.since, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        found.append(
            {
                "name": orphan.name,
                "state": "orphaned",
                "id": header.sandbox.id,
                "init": header.init.pid,
                "since": since,
                "command": header.command,
            }
        )
    if output == "json":
        print(json.dumps(found, indent=2))
        return 0
    for each in found:
        said = each.get("problem") or (f"policy {each['policy']}" if "policy" in each else " ".join(each["command"]))
        print(f"{each['name']:20} {each['state']:9} {said}")
    return 0


def _kill(name: str, output: str) -> int:
    from stockade.kernel.load import mounted_bpffs
    from stockade.service import orphans
    from stockade.service.control import ask, running
    from stockade.service.settings import Settings

    settings = Settings()
    if name in running(settings.control):
        ask(settings.control, name, "kill")
    else:
        try:
            slot = orphans.seized(settings, mounted_bpffs(settings.run / "bpf"), name)
        except StockadeError as error:
            if error.code != "no_orphan":
                raise
            raise StockadeError(
                f"no sandbox is called {name}", hint="stockade sandbox ls says which there are", code="no_sandbox"
            ) from None
        try:
            orphans.end(slot, "stockade sandbox kill, while it had no agent")
        finally:
            slot.let_go()
    print(json.dumps({"sandbox": name, "killed": True}) if output == "json" else f"{name}: killed")
    return 0
