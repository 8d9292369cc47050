"""`stockade adopt`: an agent for sandboxes whose own has died."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SUMMARY = (
    "Take over a sandbox whose agent has died: it is governed again, and reaches what its policy allows. Stays until the command ends, as "
    "`stockade run` does, and exits with its status, or 125 when that cannot be known (before Linux 6.15); 2 when it was not adopted. "
    "With --all: 0 when every one was adopted and has ended, 1 when one was not."
)
EXAMPLES = """\
  stockade sandbox ls                  # those that wait are `orphaned`
  stockade adopt box-1
  stockade adopt --all -o json         # a line for each, as soon as it is governed again
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME", help="which")
    which.add_argument("--all", action="store_true", help="every one that waits, each by an agent of its own")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    from stockade.service.adopt import Adopted, adopt
    from stockade.service.settings import Settings

    def done(adopted: Adopted) -> None:
        if args.output == "json":
            said = {"sandbox": adopted.sandbox, "id": adopted.id, "pid": adopted.init, "generation": adopted.generation}
            print(json.dumps(said | {"gap_seconds": adopted.gap, "changed_binaries": list(adopted.changed)}), flush=True)
        else:
            print(f"{adopted.sandbox}: adopted after {adopted.gap} s at most, generation {adopted.generation} is in force", flush=True)
        for path in adopted.changed:
            print(f"stockade: {path} is not what it was: it runs on where it runs, and is not executed again", file=sys.stderr)

    if not args.all:
        return adopt(args.name, Settings(), done)
    return _all(args.output)


def _all(output: str) -> int:
    """Each in a process of its own: an agent that dies takes no other along."""
    from stockade.kernel.load import mounted_bpffs
    from stockade.service.orphans import orphans
    from stockade.service.settings import Settings
    from stockade.types import StockadeError

    settings = Settings()
    try:
        waiting = orphans(settings, mounted_bpffs(settings.run / "bpf"))
    except PermissionError:
        raise StockadeError("stockade adopt needs root", hint="sudo stockade adopt …", code="not_root") from None
    if not waiting:
        print("no sandbox waits for an agent", file=sys.stderr)
        return 0
    with ThreadPoolExecutor(len(waiting)) as pool:
        return 0 if all(pool.map(lambda orphan: _adopted(orphan.name, output), waiting)) else 1


def _adopted(name: str, output: str) -> bool:
    """Whether it was: an agent says so on its standard output, and ends with the status of a command that may be any."""
    said = False
    command = [sys.executable, "-P", "-m", "stockade", "adopt", "-o", output, "--", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        for line in agent.stdout:
            said = True
            print(line, end="", flush=True)
    return said
