"""A text as the patterns read it: UTF-8 bytes for RE2, a folded copy for keywords, and the way back from bytes to characters.

RE2 is linear in the text whatever the pattern; Python's own `re` is not, and these texts are written by whoever the agent listens to.
No look-around exists there: what must not stand beside a value is asked here, in `Pattern.beside`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, cast

import re2

from stockade.privacy import deadline
from stockade.privacy.finding import Finding

_SURROGATE = re.compile("[\ud800-\udfff]")


class Match(Protocol):
    def span(self, group: int = ...) -> tuple[int, int]: ...


class Regex(Protocol):
    groups: int

    def search(self, text: bytes, pos: int = ..., endpos: int = ...) -> Match | None: ...


def compiled(expression: str, *, memory: int = 8 << 20) -> Regex:
    """Of RE2, over UTF-8 bytes. Raises ValueError with RE2's own words."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    try:
        return cast(Regex, re2.compile(expression.encode(), options))
    except re2.error as error:
        why = error.args[0] if error.args else "is no pattern"
        raise ValueError(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from None


class Subject:
    """One text in the forms that detectors read: characters, UTF-8, and UTF-8 in lower case. Offsets of findings are of characters."""

    def __init__(self, text: str) -> None:
        self.ascii = text.isascii()
        self.text = text if self.ascii else _SURROGATE.sub("\ufffd", text)
        self.data = self.text.encode()
        self.folded = self.data.lower()

    @cached_property
    def has_digit(self) -> bool:
        return _DIGIT.search(self.data) is not None

    @cached_property
    def _characters(self) -> list[int]:
        at: list[int] = []
        for number, character in enumerate(self.text):
            size = 1 if character < "\x80" else len(character.encode())
            at.extend([number] * size)
        at.append(len(self.text))
        return at

    def character(self, byte: int) -> int:
        return byte if self.ascii else self._characters[byte]

    def finding(self, start: int, end: int, category: str, detector: str, score: float) -> Finding:
        return Finding(self.character(start), self.character(end), category, detector, score)

    def matches(self, regex: Regex, group: int = 0) -> Iterator[tuple[int, int, Match]]:
        """Each match with the span of a group in bytes. Goes on at the end of the group: what follows it may begin the next."""
        at, size = 0, len(self.data)
        while at <= size and (match := regex.search(self.data, at)):
            deadline.keep()
            start, end = match.span(group)
            if start < 0:
                start, end = match.span()
            else:
                yield start, end, match
            at = max(end, at + 1)


_DIGIT = compiled("[0-9]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of value. expression: RE2, its first group is the value where it has one.

    near: words that make a match likelier, looked for `before` and `after` bytes around it; with `required` there is no finding without.
    beside: characters that must not touch the value on either side (ASCII). hints: one of these must occur (lower case) for the pattern
    to be tried. score: without context; a word near lifts it to `lifted`, a checksum alone may be as good.
    """

    name: str
    category: str
    expression: str
    score: float = 0.8
    check: Callable[[str], bool] | None = None
    near: str = ""
    required: bool = False
    lifted: float = 0.95
    before: int = 80
    after: int = 30
    beside: str = ""
    hints: tuple[str, ...] = ()
    digit: bool = True
    trim: Callable[[str], int] | None = None  # in place of check: how many characters of the match are the value; 0: none are
    says: str = ""
    _regex: list[Regex] = field(default_factory=list, compare=False, repr=False)

    @property
    def regex(self) -> Regex:
        return self._one(0, self.expression)

    @property
    def context(self) -> Regex:
        return self._one(1, self.near)

    def prepare(self) -> None:
        """Compile now, in the worker's start rather than in the first request."""
        self._one(0, self.expression)

    def _one(self, place: int, expression: str) -> Regex:
        if not self._regex:
            self._regex.extend((compiled(self.expression), compiled(self.near or "$")))
        return self._regex[place]

    def find(self, subject: Subject) -> Iterator[Finding]:
        if (self.digit and not subject.has_digit) or (self.hints and not any(hint.encode() in subject.folded for hint in self.hints)):
            return
        deadline.keep()
        regex, data = self.regex, subject.data
        for start, end, _ in subject.matches(regex, 1 if regex.groups else 0):
            if self.trim:
                kept = self.trim(data[start:end].decode(errors="replace"))
                if not kept:
                    continue
                end = start + kept  # such values are ASCII
            if self.beside and _touches(data, start, end, self.beside):
                continue
            if self.check and not self.check(data[start:end].decode(errors="replace")):
                continue
            score = self.score
            if self.near:
                window = data[max(0, start - self.before) : start] + b" \x00 " + data[end : end + self.after]
                if self.context.search(window):
                    score = max(score, self.lifted)
                elif self.required:
                    continue
            yield subject.finding(start, end, self.category, f"pattern:{self.name}", score)


def _touches(data: bytes, start: int, end: int, characters: str) -> bool:
    """A full stop or a dash counts only where the word goes on behind it: a sentence may end with a number."""
    before, after = data[max(0, start - 2) : start][::-1].decode("latin-1"), data[end : end + 2].decode("latin-1")
    for side in (before, after):
        if not side:
            continue
        if "w" in characters and _word(side[0]):
            return True
        if side[0] in characters and side[0] != "w" and len(side) == 2 and _word(side[1]):
            return True
    return False


def _word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")
