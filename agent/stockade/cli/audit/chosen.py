"""Which records an action reads: trails, filters, a period; and what is said of a line that is no record."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from stockade.audit import parts
from stockade.audit.glance import Columns
from stockade.audit.read import FILTERS, Broken, Filter, columns, read
from stockade.audit.record import Json
from stockade.cli.trail import moment
from stockade.types import Action, Outcome, Reason, StockadeError

_CLOSED: dict[str, type[StrEnum]] = {"action": Action, "decision": Outcome, "reason": Reason}
_META = {
    **dict.fromkeys(("host", "binary", "rule", "namespace", "pod"), "PATTERN"),
    **dict.fromkeys(("since", "until"), "WHEN"),
    "sandbox": "NAME",
}
_HELP = {
    "sandbox": "its name or id",
    "action": f"one of {', '.join(Action)}",
    "binary": "its name, or its path; * and ? as in a shell",
    "host": "where to; * and ? as in a shell",
    "decision": "allow or deny",
    "reason": "as a record has it, such as no_rule",
    "rule": "the name of a rule; * and ? as in a shell",
    "namespace": "of the pod; * and ? as in a shell",
    "pod": "its name; * and ? as in a shell",
    "since": "from then on: 10m, 2h, 7d, 2026-11-01, 2026-11-01T09:00:00Z",
    "until": "before then",
}


def add_trails(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "trail", nargs="*", type=Path, metavar="TRAIL", help="a trail, or a directory of trails (default: all of this machine)"
    )


def add_filters(parser: argparse.ArgumentParser) -> None:
    for name in FILTERS:
        parser.add_argument(f"--{name}", dest=f"only_{name}", metavar=_META.get(name, name.upper()), help=_HELP[name])


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")


def filters(args: argparse.Namespace) -> Filter:
    """Raises StockadeError for a value that no record can have: it would find nothing, and look like good news."""
    given = {name: getattr(args, f"only_{name}") for name in FILTERS}
    for name, kind in _CLOSED.items():
        if (value := given[name]) is not None and value not in set(kind):
            near = difflib.get_close_matches(value, list(kind), 3, 0.4) if kind is Reason else list(kind)
            raise StockadeError(f"--{name} {value}: no record has it", hint=f"accepted: {', '.join(near or kind)}", code="bad_filter")
    for name in ("since", "until"):
        if given[name] is not None:
            given[name] = moment(given[name], f"--{name}")
    return Filter(**given)


def trails(args: argparse.Namespace) -> list[Path]:
    """Those that are named, or all that this machine is known to have. Raises StockadeError when there is none."""
    named: list[Path] = args.trail
    if not named:
        return _known()
    found = [each for path in named for each in (parts.trails(path) if path.is_dir() else [path])]
    if not found:
        raise StockadeError(f"no trail in {named[0]}", hint="name the file that --audit names", code="audit_unreadable")
    return found


def records(paths: Sequence[Path], wanted: Filter, *, last: int | None = None, follow: bool = False) -> Iterator[Json]:
    """One trail after the other. What is damaged is said on stderr, and nothing of it is shown. Raises StockadeError."""
    for path in paths:
        yield from _sound(read(path, wanted, last=last, follow=follow), path)


def fields_of(paths: Sequence[Path], wanted: Filter, names: Sequence[str]) -> Iterator[Columns]:
    """As records, but only those fields of each, as they are spelt."""
    for path in paths:
        yield from _sound(columns(path, wanted, names), path)


def _sound[T](found: Iterator[T | Broken], path: Path) -> Iterator[T]:
    for one in found:
        if isinstance(one, Broken):
            where = f":{one.number}" if one.number else ""
            print(f"{one.file}{where}: {one.problem} (stockade audit verify {path})", file=sys.stderr)
        else:
            yield one


def _known() -> list[Path]:
    """Below the directory of trails, and where sandboxes that are there now write theirs."""
    from stockade.service.settings import Settings
    from stockade.service.state import StateFile
    from stockade.settings import configured

    settings = Settings.of(configured(None))
    found = dict.fromkeys(parts.trails(settings.log) if settings.log.is_dir() else [])
    slots = settings.run / "slots"
    if os.access(slots, os.R_OK | os.X_OK):
        for name in sorted(slots.glob("*.json")):
            try:
                header = StateFile(slots, int(name.stem)).header()
            except (StockadeError, ValueError):
                continue
            if header is not None and header.audit.exists():
                found[header.audit] = None
    if not found:
        raise StockadeError(f"no trail in {settings.log}", hint="name the file that --audit names", code="audit_unreadable")
    return list(found)
