"""Secrets of sinks. Where they are is in the settings; what they are is read when it is needed: one can be exchanged while agents run."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from stockade.types import StockadeError


def resolve(text: str) -> str:
    """The text itself, or what file:PATH or env:NAME hold. Raises StockadeError."""
    kind, _, where = text.partition(":")
    if kind == "env":
        if not (value := os.environ.get(where, "")):
            raise StockadeError(f"the variable {where} is not set", hint="a sink of the settings file names it", code="sink_secret")
        return value
    if kind != "file":
        return text
    try:
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(fd, encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(fd).st_mode) & 0o007:
                raise StockadeError(f"{where} can be read by everybody", hint=f"chmod o-rwx {where}", code="sink_secret")
            value = file.read().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StockadeError(f"cannot read {where}: {error}", hint="a sink of the settings file names it", code="sink_secret") from error
    if not value or any(character in value for character in "\r\n\0"):
        raise StockadeError(f"{where} does not hold one line", hint="a token on a line of its own", code="sink_secret")
    return value


def headers(stated: Mapping[str, str]) -> dict[str, str]:
    return {name: resolve(value) for name, value in stated.items()}


def exists(path: Path | None) -> None:
    """Raises StockadeError."""
    if path is not None and not os.access(path, os.R_OK):
        raise StockadeError(f"cannot read {path}", hint="a sink of the settings file names it", code="sink_secret")
