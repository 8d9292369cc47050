"""Text to the model's tokens and back: words with their places in the text, their pieces, and the shape each had before it was lowered.

The vocabulary is BERT's uncased one. Lowering loses what tells a name from a word, so every piece carries a *shape* beside its id: how the
word was written (Capitalised, UPPER, digits …) and what stood before it (nothing, a space, a line's end). The model has a vector for each.
Written here instead of taken from the `tokenizers` package: that one brings a client of a model hub along, and training and serving must
cut words in exactly the same way, so both use this module. It needs nothing but the standard library, and runs on Python 3.11 too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

PAD, UNKNOWN, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
MOST_CHARACTERS = 48
"""Longer runs of letters and digits are cut into words of this length: no word may grow without bound, and none is skipped."""
MOST_PIECES = 16

# One word is a run of letters and digits, or one other visible character. Marks (accents written apart, joiners) belong to the run
# before them.
_WORD = re.compile(r"[^\W_]+(?:[\u0300-\u036f\u200c\u200d]+[^\W_]*)*|[^\w\s]|_")
_SCRIPT_WITHOUT_SPACES = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
_IGNORED = dict.fromkeys([*range(0x200B, 0x2010), 0x2060, 0xFEFF, 0x00AD])

KINDS = ("other", "lower", "capitalised", "upper", "initial", "mixed", "digits", "digits+letters", "mark")
GAPS = ("joined", "space", "line")
SHAPES = len(KINDS) * len(GAPS) + 1
"""Shape 0 is that of the tokens which are no text."""


class Word(NamedTuple):  # made three times as fast as a frozen class, and there are as many as words
    """A word of a text: characters [start, end), the ids of its pieces, and its shape (1 … SHAPES - 1)."""

    start: int
    end: int
    pieces: tuple[int, ...]
    shape: int


def kind_of(word: str) -> int:
    """The index in KINDS of how a word is written."""
    if word.isdigit():
        return 6
    if not word[0].isalnum():
        return 8
    if any(c.isdigit() for c in word):
        return 7
    if word.islower():
        return 1
    if word.isupper():
        return 4 if len(word) == 1 else 3
    if word[0].isupper() and word[1:].islower():
        return 2
    return 5 if any(c.isupper() for c in word) else 0


class WordPiece:
    """Cuts text by a vocabulary. Pure and deterministic; the same instance may be used by several threads."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._ids = dict(vocabulary)
        self.pad, self.unknown, self.cls, self.sep = (self._ids[name] for name in (PAD, UNKNOWN, CLS, SEP))
        self._pieces = lru_cache(maxsize=32768)(self._cut)

    @classmethod
    def read(cls, path: Path) -> WordPiece:
        """The vocabulary in a file with one piece a line."""
        return cls({line: number for number, line in enumerate(path.read_text("utf-8").split("\n")) if line})

    def words(self, text: str) -> list[Word]:
        """The words of a text in order. Every visible character lies in exactly one of them."""
        found: list[Word] = []
        previous, known, ascii_only = 0, self._pieces, text.isascii()
        for match in _WORD.finditer(text):
            start, end = match.span()
            gap = 0 if start == previous and start else (2 if "\n" in text[previous:start] else 1)
            previous = end
            word = match.group()
            # Scripts written without spaces are read sign by sign, as the vocabulary has them.
            step = 1 if not ascii_only and _SCRIPT_WITHOUT_SPACES.search(word) else MOST_CHARACTERS
            if end - start <= step:
                pieces, kind = known(word)
                found.append(Word(start, end, pieces, 1 + kind * len(GAPS) + gap))
                continue
            for at in range(0, len(word), step):
                part = word[at : at + step]
                pieces, kind = known(part)
                found.append(Word(start + at, start + at + len(part), pieces, 1 + kind * len(GAPS) + (gap if at == 0 else 0)))
        return found

    def _cut(self, word: str) -> tuple[tuple[int, ...], int]:
        """Greedy longest match, as BERT's own: https://arxiv.org/abs/1810.04805, section 3."""
        kind = kind_of(word)
        plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", word).lower())
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn").translate(_IGNORED)
        pieces: list[int] = []
        at = 0
        while at < len(plain):
            for end in range(len(plain), at, -1):
                piece = self._ids.get(plain[at:end] if at == 0 else "##" + plain[at:end])
                if piece is not None:
                    pieces.append(piece)
                    at = end
                    break
            else:
                return (self.unknown,), kind
        return tuple(pieces[:MOST_PIECES]) or (self.unknown,), kind
