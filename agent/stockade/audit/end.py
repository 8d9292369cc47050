"""The end of a trail as its next writer finds it: the last lines of its newest file that holds any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stockade.audit.chain import GENESIS, BrokenLine, Head, follow, unseal
from stockade.audit.file import LineFile
from stockade.audit.parts import closed, numbered
from stockade.types import StockadeError


@dataclass(frozen=True, slots=True)
class End:
    """What the files end in. hashes: those the pin may rightly hold. began: of the last record. torn: bytes of a line without its end."""

    head: Head
    hashes: frozenset[str]
    began: str | None
    unsigned: bool
    torn: int

    @classmethod
    def of(cls, file: LineFile) -> End:
        """Of an open trail and its closed files. Raises StockadeError when the last whole lines are damaged."""
        lines, torn = file.tail(2)
        there = closed(file.path)
        if len(lines) < 2 and there:
            older = LineFile.open(numbered(file.path, there[-1]))
            try:
                lines = [*older.tail(2 - len(lines))[0], *lines]
            finally:
                older.close()
        return cls._read(file.path, lines, len(torn))

    @classmethod
    def _read(cls, path: Path, lines: list[bytes], torn: int) -> End:
        head, hashes, began, unsigned = Head(), {GENESIS}, None, False
        try:
            for line in map(unseal, lines):
                unsigned = "checkpoint" not in line
                if unsigned:
                    began = line["detail"].get("began")
                head = follow(head if unsigned else Head(int(line["checkpoint"]["seq"])), line)
                # Killed between a checkpoint and its pin, the pin still holds the record before it.
                hashes = {head.hash} if unsigned else {head.hash, str(line["prev"])}
        except (BrokenLine, KeyError, TypeError, ValueError, AttributeError) as error:
            raise StockadeError(
                f"{path} is damaged at its end: {error}",
                hint=f"stockade audit verify {path}; then move it away, with {path.name}.*, and a new trail is begun",
                code="audit_damaged",
            ) from error
        return cls(head, frozenset(hashes), began, unsigned, torn)
