"""What stars leave of a pattern: pieces that a text must have, one after the other."""

from __future__ import annotations

from collections.abc import Sequence


def in_order(text: str, pieces: Sequence[str]) -> bool:
    """Whether a text is the pieces in this order, with anything between them. pieces: two at least, which may be empty.

    Each is taken where it first occurs, so the work is bounded by the text times the pieces, and nothing is tried twice.
    """
    first, *middle, last = pieces
    position, end = len(first), len(text) - len(last)
    if end < position or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in middle:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True
