"""Amounts as policies write them: `512M`, `2Gi`, `1.5`. A K is 1,024 bytes with and without its i, as the kernel's own files have it."""

from __future__ import annotations

_UNITS = "KMGT"


def amount(text: str) -> float:
    """The number that a text of digits, or of SIZE, stands for."""
    return float(text) if text[-1].isdigit() else size(text)


def size(text: str) -> int:
    """Bytes. text fits SIZE of spec.py."""
    word = text.removesuffix("i")
    return int(word[:-1]) << 10 * (_UNITS.index(word[-1]) + 1)


def size_text(size: int) -> str:
    """The shortest spelling of a whole number of KiB."""
    step = max(step for step in range(1, len(_UNITS) + 1) if size % (1 << 10 * step) == 0)
    return f"{size >> 10 * step}{_UNITS[step - 1]}"
