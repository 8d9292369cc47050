"""Which running sandboxes a verb is about: those that were named, or all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stockade.service.control import running
from stockade.types import StockadeError


def chosen(directory: Path, named: Sequence[str]) -> list[str]:
    """Their names. Raises StockadeError when none runs."""
    if named:
        return list(dict.fromkeys(named))
    found = running(directory)
    if not found:
        raise StockadeError("no sandbox is running on this machine", hint="stockade run …", code="no_sandbox")
    return found
