"""Problems: what is wrong with a policy, where, and what would have been accepted. Owns their text form and the error that carries them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from stockade.policy.format.codes import Severity
from stockade.types import StockadeError

_WIDTH = 160  # characters of a source line that are shown


@dataclass(frozen=True, slots=True)
class Problem:
    """One located finding. line and column count from 1; line 0 means the file as a whole. source is the text of that line."""

    path: str
    line: int
    column: int
    code: str
    message: str
    accepted: str = ""
    severity: Severity = "error"
    source: str = ""

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        kind = "warning: " if self.severity == "warning" else ""
        lines = [f"{_printable(where)}: {kind}{_printable(self.message)} [{self.code}]"]
        if self.line and self.column <= _WIDTH and self.source:
            lines.append(f"    {_printable(self.source[:_WIDTH])}")
            lines.append("    " + " " * (self.column - 1) + "^")
        if self.accepted:
            lines.append(f"    accepted: {_printable(self.accepted)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, str | int]:
        """As every JSON answer has it: without `source`, which is to be looked at."""
        return {
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "accepted": self.accepted,
        }


class PolicyError(StockadeError):
    """A policy that does not load; `problems` holds all that is wrong with it, warnings included."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)), hint="stockade policy check FILE", code="policy")
        self.problems = tuple(problems)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    return next(iter(get_close_matches(word, list(known), n=1)), None)


def meant(word: str, known: Iterable[str]) -> str:
    """What to say after "there is no WORD": the one that comes closest, or nothing."""
    close = closest(word, known)
    return f"; did you mean `{close}`?" if close else ""


def _printable(text: str) -> str:
    """A policy may come from a stranger: no control character of it reaches the terminal. One character for one, so carets stay right."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text)
