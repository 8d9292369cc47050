"""Generalising: many paths that were asked for, turned into few globs that say what they have in common.

A segment becomes `*` when it is an identifier by its form (a number, a hash, a UUID, a date, a version, something random), or when many
siblings under one parent are followed by the same. `**` comes only of paths whose depth varies a lot, and never at the root. What is left
is literal: a policy that was learnt should be read with surprise, not with relief.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from stockade.policy.making.masked import hides_segments
from stockade.policy.paths import allow_list

SIBLINGS = 6  # alike in all but their name: as many are a pattern
CROWD = 24  # alike in nothing but their parent
DEPTHS = 4  # different lengths below one parent

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATE = re.compile(r"\d{4}-\d{2}(?:-\d{2})?(?:T[0-9:.Z+-]*)?|(?:19|20)\d{6}")
_VERSION = re.compile(r"(?:\d+(?:\.\d+)+|v\d+(?:\.\d+){2,})(?:[-+._]?[A-Za-z0-9]+)*")  # v1 and v1.0 are an API's, and stay
_VERSIONED = re.compile(r"(?P<name>.+?[-_@])v?\d+(?:\.\d+)+.*?(?P<ending>(?:\.tar)?\.[A-Za-z][A-Za-z0-9]{0,8})?")
_HEX = re.compile(r"(?=[0-9a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{7,}")
_CODE = re.compile(r"(?=[A-Z]*\d)[A-Z0-9]{8,}")  # as chat services name their channels and users
_PAIR = re.compile(r"[0-9a-f]{2}")  # hashes are often stored below their first octets
_TOKEN = re.compile(r"[A-Za-z0-9]+")
_OPEN = frozenset({"", "*", "**"})
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,8}")


Tails = dict[tuple[str, ...], int]  # what follows a parent, segment by segment, with the number of requests


def generalise(paths: Mapping[str, int]) -> dict[str, int]:
    """Globs of an allow list that cover these canonical paths, with the number of requests of each; sorted, and the same for the same."""
    tails: Tails = {}
    for path, count in paths.items():
        _add(tails, _segments(path), count)
    return _without_covered({"/" + "/".join(tail): count for tail, count in sorted(_merge(tails, depth=0).items())})


def _segments(path: str) -> tuple[str, ...]:
    raw = path[1:].split("/")
    found = [_segment(segment) for segment in raw]
    for position in range(len(raw) - 2, -1, -1):
        if _PAIR.fullmatch(raw[position]) and (found[position + 1] == "*"):
            found[position] = "*"
    if hides_segments(path):
        found[-1] = "**"
    return tuple(found)


def _segment(text: str) -> str:
    """One segment, with what is an identifier in it as a star."""
    text = re.sub(r"\*+", "*", text)
    if text.isdigit() or any(form.fullmatch(text) for form in (_UUID, _DATE, _VERSION)):
        return "*"
    if found := _VERSIONED.fullmatch(text):
        return re.sub(r"\*+", "*", found["name"] + "*" + (found["ending"] or ""))
    text = _TOKEN.sub(lambda token: "*" if _random(token[0]) else token[0], _UUID.sub("*", text))
    return re.sub(r"\*(?:[-_.~]?\*)+", "*", text)


def _random(token: str) -> bool:
    """Whether letters and digits in a row are no word: a hash, a code, a key, a number that counts something."""
    if token.isdigit():
        return len(token) > 2
    changes = len(re.findall(r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])(?=\d)", token))
    return bool(_HEX.fullmatch(token) or _CODE.fullmatch(token) or (len(token) >= 12 and changes >= 3) or (len(token) >= 20 and changes))


def _merge(tails: Tails, *, depth: int) -> Tails:
    """The tails of one parent, what is alike in them made one. depth 0 is the root, where it takes twice as many."""
    children: dict[str, Tails] = {}
    for tail, count in tails.items():
        if tail:
            _add(children.setdefault(tail[0], {}), tail[1:], count)
    children = {name: _merge(below, depth=depth + 1) for name, below in children.items()}
    times = 1 if depth else 2
    # Those that begin alike before those that do not: chat.* says less than *.
    for key in (_beginning, _nothing):
        for names, rest in _alike(children, key):
            if len(names) >= times * SIBLINGS:
                _join(children, names, [rest], depth)
    named = [name for name in children if name not in _OPEN]
    if len(named) >= times * CROWD:
        _join(children, named, [rest for name in named for rest in children[name]], depth)
    found: Tails = {(): tails[()]} if () in tails else {}
    for name, below in children.items():
        found |= {(name, *rest): count for rest, count in below.items()}
    if depth and len({len(tail) for tail in found if tail}) >= DEPTHS and len(found) >= SIBLINGS:
        return {tail: count for tail, count in found.items() if not tail} | {("**",): sum(count for tail, count in found.items() if tail)}
    return found


def _add(tails: Tails, tail: tuple[str, ...], count: int) -> None:
    tails[tail] = tails.get(tail, 0) + count


def _beginning(name: str) -> str:
    head, dot, _ = name.partition(".")
    return head + dot


def _nothing(_: str) -> str:
    return ""


def _alike(children: dict[str, Tails], key: Callable[[str], str]) -> list[tuple[list[str], tuple[str, ...]]]:
    """Names that are followed by the same, with what that is."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in sorted(children):
        for rest in children[name]:
            if name not in _OPEN:
                groups.setdefault((key(name), rest), []).append(name)
    return [(names, rest) for (_, rest), names in groups.items()]


def _join(children: dict[str, Tails], names: list[str], rests: list[tuple[str, ...]], depth: int) -> None:
    """One child in the place of several, for what is common to them."""
    joined: Tails = {}
    for name in names:
        below = children[name]
        for rest in rests:
            if rest in below:
                _add(joined, rest, below.pop(rest))
        if not below:
            del children[name]
    common = _common(names)
    for rest, count in children.get(common, {}).items():
        _add(joined, rest, count)
    children[common] = _merge(joined, depth=depth + 1)


def _common(names: list[str]) -> str:
    """A star with what all names begin and end with, where that is a word of its own."""
    ending = {match[0] if (match := re.search(_ENDING.pattern + r"\Z", name)) else "" for name in names}
    end = ending.pop() if len(ending) == 1 else ""
    first, last = min(names).removesuffix(end), max(names).removesuffix(end)
    same = next((position for position, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    start = re.match(r"(?:.*[-_.])?", first[:same])
    return re.sub(r"\*+", "*", (start[0] if start else "") + "*" + end)


def _without_covered(globs: dict[str, int]) -> dict[str, int]:
    found = dict(sorted(globs.items()))
    for glob in list(found):
        for other in found:
            if other != glob and _covers(other, glob):
                found[other] += found.pop(glob)
                break
    return found


def _covers(wide: str, glob: str) -> bool:
    """Whether one glob covers another: a star of the covered one can only be taken by a star of the other."""
    if "**" in glob:
        return wide.endswith("/**") and glob.startswith(wide.removesuffix("**"))
    return allow_list([wide]).matches(glob)
