"""Who did what: attempts by binary, destination and outcome, and the latest refusals, for people who look at a running sandbox.

Names come out of what a sandbox did, so there may be any number of them: the table is bounded, and what was not seen for longest is
added up as others. None of this becomes a label of a metric.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from stockade.audit.record import Json

ROWS = 512
REFUSALS = 64
TEXT = 256  # characters of a name that are kept

OTHERS = ("(others)", "(others)", "(others)")


@dataclass(slots=True)
class Row:
    """last: time of its newest record; reason: of its newest refusal."""

    allowed: int = 0
    denied: int = 0
    last: str = ""
    reason: str = ""


class Activity:
    """Of one sandbox."""

    def __init__(self, rows: int = ROWS) -> None:
        self._limit = rows
        self._rows: OrderedDict[tuple[str, str, str], Row] = OrderedDict()
        self._others = Row()
        self._refusals: deque[Json] = deque(maxlen=REFUSALS)

    def record(self, record: Json, times: int) -> None:
        """Take up one record of the trail, which stands for so many attempts."""
        binary, allowed = record["binary"], record["decision"] == "allow"
        key = (binary["name"][:TEXT] if binary else "-", _destination(record), record["action"])
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= self._limit:
                _, forgotten = self._rows.popitem(last=False)
                _add(self._others, forgotten)
            row = self._rows[key] = Row()
        else:
            self._rows.move_to_end(key)
        row.last = record["time"]
        if allowed:
            row.allowed += times
            return
        row.denied += times
        row.reason = record["reason"]
        self._refusals.append(
            {
                "time": record["time"],
                "seq": record["seq"],
                "action": record["action"],
                "binary": key[0],
                "pid": record["pid"],
                "destination": key[1],
                "request": _request(record),
                "reason": record["reason"],
                "rule": record["rule"],
                "enforced": record["enforced"],
                "times": times,
            }
        )

    def rows(self) -> list[Json]:
        """As JSON, what was seen last first."""
        found = [_row(key, row) for key, row in reversed(self._rows.items())]
        return found + ([_row(OTHERS, self._others)] if self._others.last else [])

    def refusals(self) -> list[Json]:
        """As JSON, the newest first."""
        return list(reversed(self._refusals))


def _destination(record: Json) -> str:
    """`host:port`; of an exec, a file or a call, what it was about."""
    if destination := record["destination"]:
        host = destination["host"][:TEXT]
        if destination["port"] is None:
            return str(host)
        return f"[{host}]:{destination['port']}" if ":" in host else f"{host}:{destination['port']}"
    detail = record["detail"]
    if record["action"] == "exec" and record["binary"]:
        return str(record["binary"]["script"] or record["binary"]["path"])[:TEXT]
    for name in ("path", "prefix", "device", "call", "limit"):
        if isinstance(detail.get(name), str):
            return str(detail[name])[:TEXT]
    return "-"


def _request(record: Json) -> str:
    http = record["http"]
    return f"{http['method']} {http['path']}"[:TEXT] if http else ""


def _add(others: Row, forgotten: Row) -> None:
    others.allowed += forgotten.allowed
    others.denied += forgotten.denied
    others.last = max(others.last, forgotten.last)
    others.reason = forgotten.reason or others.reason


def _row(key: tuple[str, str, str], row: Row) -> Json:
    binary, destination, action = key
    return {
        "binary": binary,
        "destination": destination,
        "action": action,
        "allowed": row.allowed,
        "denied": row.denied,
        "last": row.last,
        "reason": row.reason,
    }
