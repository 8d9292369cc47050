"""Differences of the privacy router: what may leave, and to whom, when one section takes another's place. Asked of the function that
decides about calls, so routes that are renamed, split or put in another order are no difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from stockade.policy.privacy import Privacy, Then, fits
from stockade.policy.proof.language import TooComplexError
from stockade.privacy.finding import CATEGORIES, Finding
from stockade.privacy.route import STRICT, route
from stockade.privacy.settings import Settings
from stockade.types import Effect

Said = tuple[Literal["possible", "impossible", "changed"], str]

_ANY_LENGTH = 1 << 40  # tokens: what a local model takes is compared on its own
_THEN: dict[Effect, Then] = {Effect.PASS: "pass", Effect.REDACT: "redact", Effect.LOCAL: "local", Effect.REFUSE: "deny"}
_NONE = "~"  # a name that nobody's pattern but `*` fits
_CASES = 2000  # kinds of calls that are looked at

Fits = frozenset[str | None]  # the patterns that a name fits; None in it: no name


@dataclass(frozen=True, slots=True)
class _Case:
    """A kind of call that conditions tell apart: a name for each, as an example, with the patterns that it fits."""

    host: str
    model: str | None
    sandbox: str
    fits: tuple[Fits, Fits, Fits]
    texts: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = zip((" to ", " for ", " of sandbox "), self.fits, strict=True)
        said = [word + " and ".join(sorted(map(str, which))) if None not in which else " without a model" for word, which in words if which]
        return "".join(said)

    def within(self, other: _Case) -> bool:
        """Whether what is said of the other goes without saying of this one. No model is as good as any that a route names."""
        host, model, sandbox = (mine >= theirs for mine, theirs in zip(self.fits, other.fits, strict=True))
        return host and sandbox and (model or self.model is None)


def routing(a: Privacy | None, b: Privacy | None) -> Iterator[Said]:
    """possible: more leaves, or is not looked at. changed: neither more nor less, or not to be told."""
    if a is None or b is None:
        if a is not b:
            yield ("possible" if b is None else "impossible"), "calls of language models leave unread: there is no `privacy`"
        return
    if a.mode != b.mode:
        yield ("possible" if b.mode == "audit" else "impossible"), "calls leave whatever they hold: privacy.mode is audit"
    for key, what in (
        ("unreadable", "a call that cannot be read"),
        ("on_failure", "a call that could not be classified"),
        ("on_local_failure", "a call that the local model does not take"),
    ):
        yield from _instead(what, getattr(a, key), getattr(b, key))
    yield from _routes(a, b)
    yield from _detection(a, b)
    yield from _missing(a.endpoints, b.endpoints, "is no endpoint whose calls are read")
    if a.local != b.local:
        old, new = (f"{each.local.model} at {each.local.url}" if each.local else "none" for each in (a, b))
        yield (
            "changed",
            f"the local model is {new}, instead of {old}" if old != new else f"the local model {new} has other limits, names or key",
        )
    if (a.style, a.ttl) != (b.style, b.ttl):
        yield "changed", f"redacted as {b.style}, kept for {b.ttl} s; instead of {a.style}, {a.ttl} s"
    for host in dict.fromkeys((*dict(a.residency), *dict(b.residency))):
        old, new = (dict(each.residency).get(host, "none") for each in (a, b))
        if old != new:
            yield "changed", f"the residency of {host} is {new}, instead of {old}"


def _instead(what: str, old: Then, new: Then) -> Iterator[Said]:
    if old != new:
        yield ("possible" if STRICT.index(new) < STRICT.index(old) else "impossible"), f"{what}: {new}, instead of {old}"


def _routes(a: Privacy, b: Privacy) -> Iterator[Said]:
    """Each category that is answered otherwise: of calls that no condition means, and of others where that differs."""
    cases = _cases(a, b)
    told: dict[tuple[Then, Then, _Case], list[str]] = {}
    for name in _categories(a, b):
        said: list[tuple[Then, Then, _Case]] = []
        for case in cases:
            old, new = _answer(a, name, case), _answer(b, name, case)
            nearest = next((each for each in reversed(said) if case.within(each[2])), None)
            if (old, new) != (nearest[:2] if nearest else (new, new)) and not any(
                case.within(each[2]) and each[:2] == (old, new) for each in said
            ):
                said.append((old, new, case))
        for each in said:
            if each[0] != each[1]:
                told.setdefault(each, []).append(name)
    for (old, new, case), names in told.items():
        yield from _instead(f"a call with {', '.join(_families(names, _categories(a, b)))}{case}", old, new)


def _answer(section: Privacy, category: str, case: _Case) -> Then:
    if section.local is not None:
        section = replace(section, local=replace(section.local, context=_ANY_LENGTH))
    routed = route(case, [[Finding(0, 1, category, "", 1.0)]], case.host, section, sandbox=case.sandbox)
    return _THEN[routed.effect]


def _cases(a: Privacy, b: Privacy) -> list[_Case]:
    """The first is a call that fits no condition. Names that fit the same patterns are one."""
    routes = (*a.routes, *b.routes)
    hosts = _examples([*(each.endpoint for each in routes), *(host for section in (a, b) for host, _ in section.residency)])
    models = _examples([each.model for each in routes])
    sandboxes = _examples([each.sandbox for each in routes])
    nameless: list[tuple[str | None, Fits]] = [(None, frozenset({None}))] if len(models) > 1 else []
    found = [
        _Case(host, model, sandbox, (to, of, by))
        for (host, to), (model, of), (sandbox, by) in itertools.product(hosts, [*models, *nameless], sandboxes)
    ]
    if len(found) > _CASES:
        raise TooComplexError(f"the conditions of the routes tell {len(found)} kinds of calls apart")
    return sorted(found, key=lambda case: sum(map(len, case.fits)))


def _examples(patterns: Iterable[str]) -> list[tuple[str, Fits]]:
    """A name for each set of patterns that some name fits; the first fits none."""
    patterns = list(dict.fromkeys(pattern for pattern in patterns if pattern))
    filled = [_NONE, *(pattern.replace("*", filler) for pattern in patterns for filler in ("~", *(each.strip("*") for each in patterns)))]
    found: dict[Fits, str] = {}
    for name in filled:
        found.setdefault(frozenset(pattern for pattern in patterns if fits(pattern, name)), name)
    return [(name, which) for which, name in found.items()]


def _detection(a: Privacy, b: Privacy) -> Iterator[Said]:
    old, new = (Settings(thresholds=each.thresholds) for each in (a, b))
    moved: dict[tuple[float, float], list[str]] = {}
    for name in _categories(a, b):
        if old.threshold(name) != new.threshold(name):
            moved.setdefault((old.threshold(name), new.threshold(name)), []).append(name)
    for (least, now), names in moved.items():
        what = f"{', '.join(_families(names, _categories(a, b)))} counts from a score of {now:g} on, instead of {least:g}"
        yield ("possible" if now > least else "impossible"), what
    ours, theirs = ({(each.pattern, each.category): each.name for each in section.custom} for section in (a, b))
    for pair, name in (ours | theirs).items():
        if (pair in ours) != (pair in theirs):
            yield ("possible" if pair in ours else "impossible"), f"what the pattern `{name}` finds as {pair[1]} is not looked for"
    before, after = ({(term, each.category) for each in section.dictionaries for term in each.terms} for section in (a, b))
    for category in sorted({category for _, category in before ^ after}):
        lost, won = (sum(each == category for _, each in those) for those in (before - after, after - before))
        if lost:
            yield "possible", f"{lost} terms of dictionaries are not looked for as {category}"
        if won:
            yield "impossible", f"{won} terms of dictionaries are not looked for as {category}"


def _missing(old: Iterable[str], new: Iterable[str], what: str) -> Iterator[Said]:
    yield from (("possible", f"{host} {what}") for host in old if host not in new)
    yield from (("impossible", f"{host} {what}") for host in new if host not in old)


def _categories(a: Privacy, b: Privacy) -> list[str]:
    """Those that are found, and those that are only named."""
    own = [*(each.category for each in (*a.custom, *b.custom)), *(each.category for each in (*a.dictionaries, *b.dictionaries))]
    own += [name for each in (*a.routes, *b.routes) for name in each.when] + [
        name for name, _ in (*a.require_residency, *b.require_residency)
    ]
    return [name for name in dict.fromkeys((*CATEGORIES, *own)) if "*" not in name]


def _families(names: list[str], known: list[str]) -> Iterator[str]:
    """Names with `family.*` where they are all of it."""
    whole = {name.partition(".")[0] for name in known} - {name.partition(".")[0] for name in known if name not in names}
    yield from dict.fromkeys(f"{family}.*" if (family := name.partition(".")[0]) in whole else name for name in names)
