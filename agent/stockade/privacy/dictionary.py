"""Words and patterns of a policy. Terms are found whatever their case and spacing, at the borders of words, in one pass however many
there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stockade.privacy import deadline
from stockade.privacy.finding import Finding

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Dictionary:
    name: str
    category: str
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Custom:
    """pattern: RE2; its first group is the value where it has one."""

    name: str
    pattern: str
    category: str


def _folded(text: str) -> str:
    """Lower case of the same length: 'İ' has two characters in lower case, and offsets must hold."""
    lower = text.lower()
    return (
        lower if len(lower) == len(text) else "".join(one if len(one) == 1 else original for original in text for one in [original.lower()])
    )


@dataclass(frozen=True, slots=True)
class _Term:
    words: tuple[str, ...]
    lead: str  # what stands before the first word and after the last, where a term has such: C++, .htaccess
    tail: str
    dictionary: Dictionary


class Terms:
    """Raises ValueError for a term without a letter or a digit."""

    def __init__(self, dictionaries: Sequence[Dictionary]) -> None:
        self._by_first: dict[str, list[_Term]] = {}
        for dictionary in dictionaries:
            for term in dictionary.terms:
                folded = _folded(term.strip())
                words = tuple(_WORD.findall(folded))
                if not words:
                    raise ValueError(f"dictionary {dictionary.name!r}: the term {term!r} has no letter and no digit")
                lead = folded[: folded.index(words[0])]
                tail = folded[folded.rindex(words[-1]) + len(words[-1]) :]
                self._by_first.setdefault(words[0], []).append(_Term(words, lead, tail, dictionary))
        for terms in self._by_first.values():
            terms.sort(key=lambda term: -len(term.words))

    def find(self, text: str) -> Iterator[Finding]:
        if not self._by_first:
            return
        folded = _folded(text)
        words = [(match.group(), match.start(), match.end()) for match in _WORD.finditer(folded)]
        for place, (word, start, _) in enumerate(words):
            deadline.keep()
            for term in self._by_first.get(word, ()):
                span = words[place : place + len(term.words)]
                if tuple(one for one, _, _ in span) != term.words or not _close(folded, span):
                    continue
                end = span[-1][2]
                if folded[max(0, start - len(term.lead)) : start] == term.lead and folded[end : end + len(term.tail)] == term.tail:
                    yield Finding(
                        start - len(term.lead), end + len(term.tail), term.dictionary.category, f"dictionary:{term.dictionary.name}", 1.0
                    )


def _close(text: str, span: Sequence[tuple[str, int, int]]) -> bool:
    """The words of a term follow each other with no more than three characters between."""
    return all(following[1] - word[2] <= 3 for word, following in pairwise(span))
