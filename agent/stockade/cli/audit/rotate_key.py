"""`stockade audit rotate-key`: another key signs a trail from here on."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from stockade.cli.audit.chosen import add_output

SUMMARY = (
    "Put a new key in the place of the one that signs a trail. The old one vouches for it last; its public key stays in TRAIL.pub. An "
    "agent that writes the trail takes the new one up at its next checkpoint."
)
EXAMPLES = """\
  stockade audit rotate-key /var/log/stockade/box-1.jsonl
"""

_WAITS = 30.0  # seconds for an agent's next checkpoint


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="TRAIL")
    parser.add_argument(
        "--private", type=Path, metavar="FILE", help="the private key, where the settings have it elsewhere (default: TRAIL.key)"
    )
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.audit.file import AuditError
    from stockade.audit.keys import Signer, public_keys, replace_key
    from stockade.audit.pin import beside
    from stockade.audit.trail import Trail
    from stockade.settings import Audit
    from stockade.types import StockadeError

    trail, private, public = args.file, args.private or beside(args.file, "key"), beside(args.file, "pub")
    if not trail.exists() or not private.exists():
        missing = trail if not trail.exists() else private
        raise StockadeError(f"there is no {missing}", hint="name a trail, and its private key", code="audit_unreadable")
    try:
        opened: Trail | None = Trail.open(trail, Audit(key=private))
    except AuditError:
        opened = None  # an agent writes it
    old = Signer.at(private, public).name
    new = replace_key(private)
    if opened is not None:
        opened.take_key()
        opened.close()
    until = time.monotonic() + _WAITS
    while not (taken := new in public_keys(public)) and time.monotonic() < until:
        time.sleep(0.1)
    if args.output == "json":
        print(json.dumps({"trail": str(trail), "old": old, "new": new, "taken": taken}))
    else:
        when = "signs from now on" if taken else "signs from the agent's next checkpoint on"
        print(f"{trail}: {new[:16]}… {when}, {old[:16]}… no longer does")
    return 0
