"""Languages: what can be said for certain about the canonical paths that lists of globs cover: an example, or that there is none.

A list of globs is a small automaton over characters, with the meaning that `paths` gives to it; the canonical paths are another. They are
walked together, breadth first and only where the walk leads, over the characters that the globs name, and one that stands for all others:
two paths that differ only in unnamed characters are covered by the same globs. Nothing is sampled.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stockade.policy.proof.spelling import HEX, RESERVED, UNRESERVED, Spelling
from stockade.policy.trie import denied

BUDGET = 500_000  # what one walk may cost: a few seconds; lists written by hand need some hundred

Accept = Callable[[tuple[bool, ...]], bool]

_OTHERS = "xzyqwvutsrponmlkjihgXZYQWVUTSRPONMLKJIHG-_~"  # no hex digit: it must not complete an encoding
_SPELLING, _PLAIN = Spelling(), Spelling(plain=True)


class TooComplexError(Exception):
    """A question that is not answered within the budget: there may be such a request, or not. The text says what was too much."""


@dataclass(slots=True)
class Budget:
    """What walks may still cost together: the states that they come to, each as many times as globs are alive in it."""

    left: int = BUDGET

    def spend(self, cost: int) -> None:
        """Raises TooComplexError when it is used up."""
        self.left -= cost
        if self.left < 0:
            raise TooComplexError("these path globs have too many states together")


class Automaton:
    """The paths that a list of globs covers. Runs as sets of states, which are numbered as they are met; 0 is the empty set."""

    def __init__(self, globs: Iterable[str], *, deny: bool) -> None:
        self.folded = deny
        self._free: list[list[int]] = []  # state -> states reached without a character
        self._moves: list[list[tuple[str, int]]] = []  # state -> (character, or a class, next)
        self._end = self._state()
        starts = [self._glob(spelt.lower() if deny else spelt, deny) for glob in globs for spelt in (denied(glob) if deny else (glob,))]
        self._sets: list[frozenset[int]] = [frozenset()]
        self._numbers: dict[frozenset[int], int] = {frozenset(): 0}
        self._table: dict[tuple[int, str], int] = {}
        self.start = self._number(self._closure(starts))

    @property
    def characters(self) -> frozenset[str]:
        """Those its globs name; in both cases when case does not count."""
        named = {what for moves in self._moves for what, _ in moves if len(what) == 1}
        return frozenset(named | {what.upper() for what in named}) if self.folded else frozenset(named)

    def step(self, state: int, character: str) -> int:
        """The state behind one character. States are numbered as they are reached."""
        if self.folded:
            character = character.lower()
        reached = self._table.get((state, character))
        if reached is None:
            targets = [target for inner in self._sets[state] for what, target in self._moves[inner] if _covers(what, character)]
            reached = self._table[state, character] = self._number(self._closure(targets))
        return reached

    def accepts(self, state: int) -> bool:
        return self._end in self._sets[state]

    def size(self, state: int) -> int:
        return len(self._sets[state])

    def matches(self, path: str) -> bool:
        return self.accepts(functools.reduce(self.step, path, self.start))

    def _number(self, states: frozenset[int]) -> int:
        number = self._numbers.get(states)
        if number is None:
            number = self._numbers[states] = len(self._sets)
            self._sets.append(states)
        return number

    def _closure(self, states: Iterable[int]) -> frozenset[int]:
        found, ahead = set(states), list(states)
        while ahead:
            for state in self._free[ahead.pop()]:
                if state not in found:
                    found.add(state)
                    ahead.append(state)
        return frozenset(found)

    # How a glob becomes states: a chain from its first to `_end`.

    def _state(self) -> int:
        self._free.append([])
        self._moves.append([])
        return len(self._moves) - 1

    def _glob(self, glob: str, deny: bool) -> int:
        first = self._state()
        last = self._deny(first, glob) if deny else self._segments(first, glob[1:].split("/"))
        self._free[last].append(self._end)
        return first

    def _deny(self, at: int, glob: str) -> int:
        """A deny list covers more than its globs say: see paths.py."""
        segments = glob.strip("/").split("/") if len(glob) > 1 else []
        last = segments[-1] if segments else ""
        if last in ("*", "**"):
            segments.pop()
            while segments and segments[-1] == "**":
                segments.pop()
        at = self._segments(at, segments)
        self._free[at].append(self._end)
        at = self._move(at, "/")
        return self._loop(at, "any") if last.endswith("*") else at

    def _segments(self, at: int, segments: Sequence[str]) -> int:
        for position, segment in enumerate(segments):
            if segment != "**":
                at = self._segment(self._move(at, "/"), segment)
            elif position + 1 < len(segments):
                at = self._deep(at)
            else:
                at = self._loop(self._move(at, "/"), "any")
        return at

    def _segment(self, at: int, segment: str) -> int:
        if segment == "*":
            return self._loop(self._move(at, "inner"), "inner")
        pieces = re.split(r"\*+", segment)
        for position, piece in enumerate(pieces):
            if position:
                at = self._loop(at, "inner")
            for character in piece:
                at = self._move(at, character)
        return at

    def _deep(self, at: int) -> int:
        """`**` between others: any number of segments, none too."""
        here = self._state()
        self._free[at].append(here)
        inside = self._loop(self._move(here, "/"), "inner")
        self._free[inside].append(here)
        return here

    def _move(self, at: int, what: str) -> int:
        target = self._state()
        self._moves[at].append((what, target))
        return target

    def _loop(self, at: int, what: str) -> int:
        here = self._state()
        self._free[at].append(here)
        self._moves[here].append((what, here))
        return here


def _covers(what: str, character: str) -> bool:
    return what == character or what == "any" or (what == "inner" and character != "/")


@functools.lru_cache(maxsize=8192)
def allowing(globs: tuple[str, ...]) -> Automaton:
    """The paths that an allow list covers."""
    return Automaton(globs, deny=False)


@functools.lru_cache(maxsize=8192)
def denying(globs: tuple[str, ...]) -> Automaton:
    """The paths that a deny list covers."""
    return Automaton(globs, deny=True)


def example(allow: Iterable[str], deny: Iterable[str] = (), *, within: str | None = None, budget: Budget | None = None) -> str | None:
    """A shortest canonical path that the allow list covers, the deny list does not, and a glob (read as in an allow list) does; or None."""
    automata = [allowing(tuple(allow)), denying(tuple(deny))]
    if within is not None:
        automata.append(allowing((within,)))
        return find(automata, lambda held: held[0] and not held[1] and held[2], required=(0, 2), budget=budget)
    return find(automata, lambda held: held[0] and not held[1], required=(0,), budget=budget)


def find(automata: Sequence[Automaton], accept: Accept, *, required: Sequence[int] = (), budget: Budget | None = None) -> str | None:
    """A shortest canonical path for which `accept` likes which of the automata cover it; None when there is none at all.

    Paths that every server reads alike come first. required: automata that every liked path is covered by, which
    ends the walk early elsewhere. budget: shared by several questions, or one walk's own. Raises TooComplexError.
    """
    budget = budget or Budget()
    named = frozenset[str]().union(*(automaton.characters for automaton in automata)) - {"/"}
    found = _walk(_PLAIN, automata, accept, required, _alphabet(named - {"%", ";"}), budget)
    if found is None and named & {"%", ";", "."}:
        found = _walk(_SPELLING, automata, accept, required, _alphabet(named | HEX if "%" in named else named), budget)
    return found


def _alphabet(named: Iterable[str]) -> str:
    """Named characters, and one for all others. An unnamed `%`, `.` or `;` is one of the others: where it may stand, so may any letter."""
    known = {*named} & (UNRESERVED | RESERVED | {"%"})
    other = next((character for character in _OTHERS if character not in known), "")
    return other + "".join(sorted(known, key=str.swapcase)) + "/"


def _walk(
    spelling: Spelling, automata: Sequence[Automaton], accept: Accept, required: Sequence[int], alphabet: str, budget: Budget
) -> str | None:
    walked: tuple[Automaton | Spelling, ...] = (spelling, *automata)
    alive = [0, *(1 + index for index in required)]
    start = tuple(automaton.start for automaton in walked)
    came: dict[tuple[int, ...], tuple[tuple[int, ...], str]] = {}
    seen, ahead = {start}, deque([start])
    while ahead:
        at = ahead.popleft()
        spelt, *covered = (automaton.accepts(state) for automaton, state in zip(walked, at, strict=True))
        if spelt and accept(tuple(covered)):
            return _spell(came, at)
        for character in alphabet:
            reached = tuple(automaton.step(state, character) for automaton, state in zip(walked, at, strict=True))
            if reached in seen or not all(reached[index] for index in alive):
                continue
            budget.spend(1 + sum(automaton.size(state) for automaton, state in zip(automata, reached[1:], strict=True)))
            seen.add(reached)
            came[reached] = (at, character)
            ahead.append(reached)
    return None


def _spell(came: dict[tuple[int, ...], tuple[tuple[int, ...], str]], at: tuple[int, ...]) -> str:
    characters = []
    while at in came:
        at, character = came[at]
        characters.append(character)
    return "".join(reversed(characters))
