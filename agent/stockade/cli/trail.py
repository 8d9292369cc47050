"""Which records a verb reads: files, a sandbox, a period; and what of the files is damaged."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stockade.audit.read import Broken, Filter, read
from stockade.audit.record import Json, timestamp
from stockade.audit.verify import verify
from stockade.types import StockadeError

_AGO = re.compile(r"(\d{1,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_period(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sandbox", metavar="NAME", help="only this sandbox, by name or id")
    parser.add_argument("--since", metavar="WHEN", help="only from then on: 90d, 12h, 2026-11-01, 2026-11-01T09:00:00Z")
    parser.add_argument("--until", metavar="WHEN", help="only before then")


@dataclass(slots=True)
class Trail:
    """The records of several files. first, last: times of those that were taken, empty before the first; damaged: lines and files."""

    files: Sequence[Path]
    sandbox: str | None
    since: str
    until: str
    first: str = ""
    last: str = ""
    records: int = 0
    damaged: int = 0
    generations: set[tuple[str, int]] = field(default_factory=set)

    def __iter__(self) -> Iterator[Json]:
        """Raises StockadeError when a file cannot be read. What is damaged is said on stderr, and nothing of it is taken."""
        for file in self.files:
            found = self.damaged
            for record in read(file, Filter(sandbox=self.sandbox)):
                if isinstance(record, Broken):
                    self._damaged(f"{file}:{record.number}: {record.problem}")
                elif self.since <= record["time"] < self.until:
                    self.records += 1
                    self.first = min(self.first or record["time"], record["time"])
                    self.last = max(self.last, record["time"])
                    yield record
            if self.damaged == found and not (verdict := verify(file)).ok:
                self._damaged(f"{file}:{verdict.first_bad_line}: {verdict.problem}")

    def _damaged(self, message: str) -> None:
        self.damaged += 1
        print(f"{message} (stockade audit verify)", file=sys.stderr)


def chosen(args: argparse.Namespace, files: Sequence[Path]) -> Trail:
    """Raises StockadeError for a time that is none."""
    since = moment(args.since, "--since") if args.since else ""
    until = moment(args.until, "--until") if args.until else "~"
    return Trail(files, args.sandbox, since, until)


def moment(text: str, option: str) -> str:
    """A time, or how long ago, as the trail spells times: text order is time order. Raises StockadeError, which names the option."""
    if ago := _AGO.fullmatch(text):
        return timestamp(datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise StockadeError(f"{option} {text} is no time", hint="90d, 12h, 2026-11-01, 2026-11-01T09:00:00Z", code="bad_time") from None
    return timestamp(moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC))
