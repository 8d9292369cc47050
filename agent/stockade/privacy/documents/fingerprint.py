"""Registered documents, known by keyed hashes of their shingles: five words in a row, whatever their case, spacing and punctuation.

The text is never kept. The key is made once for a registry, so that its hashes say nothing to who has not the file; who has it could test
guesses of five words, which is why it is root's alone. An excerpt of about two sentences is found, and a copy with a word changed here
and there.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import pairwise

from stockade.privacy import deadline
from stockade.privacy.finding import Finding

WORDS = 5
LEAST = 10  # shingles of a document in one place: fourteen words in a row, or more with changes in them
GAP = 18  # words that may lie between two shingles of one place
LEAST_TEXT = WORDS + LEAST - 1  # words

_WORD = re.compile(r"\w+")
_HYPHEN = re.compile(r"(?<=\w)[-‐\u00ad]\r?\n[ \t]*(?=\w)")  # a word broken at the end of a line; the same length is kept in `words`


def words(text: str) -> list[tuple[str, int, int]]:
    """Folded words with their spans. A word that a line break has cut in two is one."""
    cuts = {match.start(): match.end() for match in _HYPHEN.finditer(text)}
    found: list[tuple[str, int, int]] = []
    for match in _WORD.finditer(text):
        deadline.keep()
        if found and cuts.get(found[-1][2]) == match.start():
            before, start, _ = found.pop()
            found.append((before + match.group().casefold(), start, match.end()))
        else:
            found.append((match.group().casefold(), match.start(), match.end()))
    return found


def shingles(folded: list[str], key: bytes) -> Iterator[int]:
    for place in range(len(folded) - WORDS + 1):
        digest = hashlib.blake2b(" ".join(folded[place : place + WORDS]).encode("utf-8", "replace"), digest_size=8, key=key).digest()
        yield int.from_bytes(digest, "big")


def fingerprint(text: str, key: bytes) -> array[int]:
    """Sorted, each once. Raises ValueError for a text too short to be known again."""
    folded = [word for word, _, _ in words(text)]
    if len(folded) < LEAST_TEXT:
        raise ValueError(f"{len(folded)} words are too few to know a document by: at least {LEAST_TEXT}")
    return array("Q", sorted(set(shingles(folded, key))))


class Fingerprints:
    """documents: id → fingerprint, all made with the key."""

    def __init__(self, documents: Mapping[str, array[int]] | None = None, key: bytes = b"") -> None:
        self._key = key
        self._documents = dict(documents or {})
        digest = hashlib.sha256()
        for name, marks in sorted(self._documents.items()):
            digest.update(f"{name}\0{len(marks)}\0".encode() + marks.tobytes())
        self.version = digest.hexdigest()[:8]
        self._any: set[int] = set().union(*self._documents.values()) if self._documents else set()

    def find(self, text: str) -> Iterator[Finding]:
        if not self._any:
            return
        spans = words(text)
        if len(spans) < LEAST_TEXT:
            return
        seen = [(place, value) for place, value in enumerate(shingles([word for word, _, _ in spans], self._key)) if value in self._any]
        for name, document in self._documents.items():
            places = [place for place, value in seen if _has(document, value)]
            for first, last, count in _clusters(places):
                start, end = spans[first][1], spans[last + WORDS - 1][2]
                yield Finding(start, end, "ip.document", f"document:{name}", min(1.0, 0.7 + 0.01 * count))


def _has(document: array[int], value: int) -> bool:
    place = bisect_left(document, value)
    return place < len(document) and document[place] == value


def _clusters(places: list[int]) -> Iterator[tuple[int, int, int]]:
    if not places:
        return
    starts = [0, *(number + 1 for number, (one, following) in enumerate(pairwise(places)) if following - one > GAP), len(places)]
    for first, stop in pairwise(starts):
        if stop - first >= LEAST:
            yield places[first], places[stop - 1], stop - first
