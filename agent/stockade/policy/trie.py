"""Tries: the path globs of many rules walked together, one segment at a time.

A thousand rules on one host cost what the few that share a path's beginning cost, and a path is read once, without backtracking: however a
glob and a path are made, the work is bounded by segments × globs that are still alive.
"""

from __future__ import annotations

import re

from stockade.policy.pieces import in_order

_STARS = re.compile(r"\*+")
_ENCODED = re.compile("%(" + "|".join(f"{ord(character):02X}" for character in "!$&'()+,;=:@/") + ")")


class _Node:
    """What may follow a beginning that globs share. Numbers are of rules; the lowest that covers a path wins.

    heads: text before a closing star (`chat.*`), by its length. patterns: segments with other stars. deep: after `**`; repeats: is such a
    node, which stays alive whatever the segment is. ends: the path may end here. below: something follows. opens: here, or anything below.
    """

    __slots__ = ("below", "deep", "ends", "heads", "literal", "opens", "patterns", "repeats", "star")

    def __init__(self, repeats: bool = False) -> None:
        self.literal: dict[str, _Node] = {}
        self.heads: dict[int, dict[str, _Node]] = {}
        self.patterns: dict[tuple[str, ...], _Node] = {}
        self.star: _Node | None = None
        self.deep: _Node | None = None
        self.repeats = repeats
        self.ends: int | None = None
        self.below: int | None = None
        self.opens: int | None = None

    def child(self, segment: str) -> _Node:
        """The node behind one segment of a glob, made when it is new."""
        if segment == "**":
            if self.repeats:
                return self
            self.deep = self.deep or _Node(repeats=True)
            return self.deep
        if segment == "*":
            self.star = self.star or _Node()
            return self.star
        pieces = tuple(_STARS.split(segment))
        if len(pieces) == 1:
            return self.literal.setdefault(segment, _Node())
        if len(pieces) == 2 and not pieces[1]:
            return self.heads.setdefault(len(pieces[0]), {}).setdefault(pieces[0], _Node())
        return self.patterns.setdefault(pieces, _Node())


class Trie:
    """Numbered globs. veto: they are of deny lists, which cover more than they say (see paths.py)."""

    __slots__ = ("_root", "_veto", "empty")

    def __init__(self, *, veto: bool) -> None:
        self._root, self._veto, self.empty = _Node(), veto, True

    def add(self, glob: str, number: int) -> None:
        """glob has passed check_glob. Numbers may come in any order."""
        self.empty = False
        for spelling in denied(glob) if self._veto else (glob,):
            self._add(spelling, number)

    def _add(self, glob: str, number: int) -> None:
        node = self._root
        segments, opens = _spread(glob) if self._veto else (glob[1:].split("/"), False)
        below = not self._veto and segments[-1] == "**"
        for segment in segments[:-1] if below else segments:
            node = node.child(segment)
        if opens:
            node.opens = _lower(node.opens, number)
        elif below:
            node.below = _lower(node.below, number)
        else:
            node.ends = _lower(node.ends, number)

    def find(self, path: str) -> int | None:
        """The lowest number whose glob covers a canonical path, None when none does."""
        segments = path[1:].split("/")
        if self._veto:
            segments = path[1:].lower().split("/")
            if not segments[-1]:
                segments.pop()
        best: int | None = None
        alive = _entered([self._root])
        for segment in segments:
            following: list[_Node] = []
            for node in alive:
                if node.opens is not None:
                    best = _lower(best, node.opens)
                if node.below is not None:
                    best = _lower(best, node.below)
                if node.repeats:
                    following.append(node)
                if (found := node.literal.get(segment)) is not None:
                    following.append(found)
                if node.star is not None and segment:
                    following.append(node.star)
                for length, heads in node.heads.items():
                    if (found := heads.get(segment[:length])) is not None:
                        following.append(found)
                if node.patterns:
                    following += [then for pieces, then in node.patterns.items() if in_order(segment, pieces)]
            if not following:
                return best
            alive = _entered(following)
        for node in alive:
            if node.ends is not None:
                best = _lower(best, node.ends)
            if node.opens is not None:
                best = _lower(best, node.opens)
        return best


def denied(glob: str) -> tuple[str, ...]:
    """A deny glob as written and, as a server may read it, with the encoded reserved characters of its plain segments decoded.

    A segment with a star keeps them: `/*%2F*` is for paths that hide a slash, not for all that have one.
    """
    segments = (segment if "*" in segment else _ENCODED.sub(lambda found: chr(int(found[1], 16)), segment) for segment in glob.split("/"))
    plain = re.sub(r"/{2,}", "/", "/".join(segments))
    return (glob,) if plain == glob else (glob, plain)


def _spread(glob: str) -> tuple[list[str], bool]:
    """The segments of a deny glob, and whether it covers everything below them as well."""
    segments = glob.lower().strip("/").split("/") if len(glob) > 1 else []
    if not segments:
        return [], False
    last = segments[-1]
    if last in ("*", "**"):
        segments.pop()
        while segments and segments[-1] == "**":
            segments.pop()
        return segments, True
    return segments, last.endswith("*")


def _entered(nodes: list[_Node]) -> list[_Node]:
    """With the nodes behind a `**` that stands for no segment at all; each once."""
    found = nodes
    known: set[_Node] = set()
    for node in nodes:
        if node.deep is not None:
            if found is nodes:
                found, known = list(nodes), set(nodes)
            if node.deep not in known:
                known.add(node.deep)
                found.append(node.deep)
    return found


def _lower(a: int | None, b: int) -> int:
    return b if a is None or b < a else a
