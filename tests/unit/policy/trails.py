"""Records as a trail has them, and trails as the agent seals them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stockade.audit.chain import GENESIS, seal
from stockade.audit.record import describe
from stockade.types import Action, Binary, Destination, Effect, Http, Level, Outcome, Reason, Record, Sandbox

BOX = Sandbox("0d1f", "box-7f", "observed", 1)
CURL = Binary("curl", frozenset({"curl"}), "/usr/bin/curl", sha256="ab" * 32)
PIP = Binary("pip", frozenset({"pip", "python3"}), "/usr/bin/python3.13", script="/usr/bin/pip", sha256="cd" * 32)


def record(
    action: Action,
    host: str | None = None,
    port: int | None = None,
    method: str = "",
    path: str = "",
    *,
    binary: Binary | None = CURL,
    allowed: bool = False,
    enforced: bool = False,
    reason: Reason = Reason.NO_RULE,
    effect: Effect = Effect.PASS,
    **detail: str,
) -> dict[str, Any]:
    """One record as a trail has it; observed, unless it says more."""
    made = Record(
        action,
        Outcome.ALLOW if allowed else Outcome.DENY,
        effect,
        Level.EXEC if action is Action.EXEC else Level.PATH,
        reason,
        enforced=enforced or allowed,
        binary=binary,
        exec_id=3,
        destination=None if host is None else Destination(host, port),
        http=Http(method, path) if method else None,
        detail=dict(detail),
    )
    return describe(BOX, made)


def http(method: str, path: str, host: str = "api.example.com", port: int = 443, **more: Any) -> dict[str, Any]:
    return record(Action.HTTP, host, port, method, path, **more)


def trail(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """A trail as the agent seals it, a minute between its records."""
    prev = GENESIS
    with path.open("wb") as file:
        for number, fields in enumerate(records, start=1):
            line, prev = seal(fields | {"time": f"2026-11-27T09:{number:02}:00.000000Z", "seq": number}, prev)
            file.write(line)
    return path
