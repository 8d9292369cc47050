"""Reach: what one policy lets through and another does not, for every kind of asker, place, method and path, with a request for each.

Decided on the rules; what Rego adds or takes is not seen here.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from stockade.policy.model import Policy
from stockade.policy.proof.language import allowing, denying, find
from stockade.policy.proof.space import Cell, Space
from stockade.policy.question import ask
from stockade.types import Decision, Request

ANYTHING = "anything, unseen"  # a relay looks at no method
_TRIED = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")

Globs = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A request that one policy lets through and the other does not, with what each says."""

    who: str
    method: str
    url: str
    without: Decision
    with_: Decision


@dataclass(frozen=True, slots=True)
class Gain:
    """What a policy lets through beyond another: all of these, by all of these, at all of these. on: globs of paths; but: except these.

    example: None when no request was found that every server reads alike, or when Rego says otherwise.
    """

    who: tuple[str, ...]
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    methods: tuple[str, ...]
    on: Globs
    but: Globs
    example: Example | None


def gains(space: Space, old: Policy, new: Policy) -> list[Gain]:
    """What `new` lets through and `old` does not. Raises TooComplexError."""
    found = list(_gains(space, old, new))
    for field in ("methods", "ports", "hosts", "who"):
        found = _merged(found, field)
    return found


def _gains(space: Space, old: Policy, new: Policy) -> Iterator[Gain]:
    for who in space.askers():
        for cell in space.cells(who, new):
            before = space.cell(who, cell.where, cell.port, old)
            for method, on, but, path in _beyond(before, cell):
                request = cell.request(_unseen(before) if method is None else method, path)
                example = _example(request, cell, old, new)
                yield Gain((str(who),), (cell.where.text,), (cell.port,), (method or ANYTHING,), on, but, example)


def _beyond(before: Cell, cell: Cell) -> Iterator[tuple[str | None, Globs, Globs, str]]:
    """By method that is allowed further than before, None for whatever is sent: globs, exceptions, and a path."""
    if before.relayed:
        return
    if cell.relayed:
        yield None, (), (), "/"
        return
    known = before.methods()
    for method, (opened, closed) in cell.methods().items():
        found = _further(opened, closed, *known.get(method, ((), ())))
        if found is not None:
            yield method, *found


@functools.lru_cache(maxsize=4096)
def _further(opened: Globs, closed: Globs, was_opened: Globs, was_closed: Globs) -> tuple[Globs, Globs, str] | None:
    """The globs that cover more paths than before, what they except, and such a path; None when there is none."""
    if set(opened) <= set(was_opened) and set(was_closed) <= set(closed):
        return None
    before = [allowing(was_opened), denying(was_closed)]
    path = find(
        [allowing(opened), denying(closed), *before], lambda held: held[0] and not held[1] and not (held[2] and not held[3]), required=(0,)
    )
    if path is None:
        return None
    if not was_opened:
        return opened, closed, path
    new = [
        glob
        for glob in opened
        if glob not in was_opened
        and find([allowing((glob,)), denying(closed), before[0]], lambda held: held[0] and not held[1] and not held[2], required=(0,))
    ]
    lifted = [
        glob
        for glob in was_closed
        if glob not in closed
        and find(
            [denying((glob,)), allowing(opened), denying(closed), before[0]],
            lambda held: held[0] and held[1] and not held[2] and held[3],
            required=(0, 1, 3),
        )
    ]
    return (*new, *lifted), (), path


def _unseen(before: Cell) -> str:
    """A method that was not allowed."""
    known = before.methods()
    return next((method for method in _TRIED if method not in known), "X-ANY")


def _example(request: Request, cell: Cell, old: Policy, new: Policy) -> Example | None:
    without, with_ = ask(request, old).decision, ask(request, new).decision
    if without.allowed or not with_.allowed:
        return None
    return Example(str(cell.who), request.method or "", cell.url(request.path or "/"), without, with_)


def _merged(found: Iterable[Gain], field: str) -> list[Gain]:
    """Those that differ in one field alone become one."""
    groups: dict[Hashable, list[Gain]] = {}
    others = [name for name in ("who", "hosts", "ports", "methods", "on", "but") if name != field]
    for gain in found:
        groups.setdefault(tuple(getattr(gain, name) for name in others), []).append(gain)
    merged = []
    for first, *more in groups.values():
        values = dict.fromkeys(value for gain in (first, *more) for value in getattr(gain, field))
        example = next((gain.example for gain in (first, *more) if gain.example), None)
        changed: dict[str, Any] = {field: tuple(values), "example": example}
        merged.append(replace(first, **changed))
    return merged
