"""Rotation: PATH becomes PATH.000001, and a new PATH goes on with the same chain.

Owns the order of the steps. At every instant each record is in exactly one file; killed between two steps, the next agent finds a trail
without its PATH, which it begins anew behind the closed ones.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from stockade.audit.chain import BrokenLine, Head, follow, unseal
from stockade.audit.file import AuditError, LineFile
from stockade.audit.parts import closed, numbered
from stockade.audit.record import Json


def turn(file: LineFile) -> LineFile:
    """The new PATH, held as the old one was; the old one stays open, under its new name. Raises AuditError with everything as before."""
    path, there = file.path, closed(file.path)
    name, fresh = numbered(path, (there[-1] if there else 0) + 1), path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    new = LineFile.open(fresh, lock=True)
    try:
        path.rename(name)
        try:
            fresh.rename(path)
        except OSError:
            name.rename(path)
            raise
    except OSError as error:
        new.close()
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise AuditError(f"cannot rotate {path}: {error.strerror}", error=error.errno) from error
    new.path, file.path = path, name
    return new


def surplus(path: Path, keep: int | None) -> list[Path]:
    """Closed files beyond those that are kept, oldest first."""
    return [] if keep is None else [numbered(path, number) for number in closed(path)[:-keep]]


def end_of(path: Path) -> Head:
    """The head after a closed file. Raises AuditError when its last line is not one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 20)))
            last = file.read().splitlines()[-1]
        line: Json = unseal(last)
        if "checkpoint" in line:
            return Head(int(line["checkpoint"]["seq"]), str(line["hash"]))
        return follow(Head(), line)
    except (OSError, ValueError, LookupError, TypeError, BrokenLine) as error:
        raise AuditError(f"{path} is damaged at its end, and is kept: {error}", hint=f"stockade audit verify {path}") from error
