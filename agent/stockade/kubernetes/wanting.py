"""What is wanted of each pod, of all that is known. Pure.

1) A pod that names a policy which is not there is refused everything.
2) A policy that has never loaded changes nothing for pods that were there before it; to one that is new everything is refused.
3) Where a policy enforces, those that only observe are left out: what observes refuses nothing, and allows nothing either.
4) What no policy means is left alone, or refused everything, as the settings say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stockade.kubernetes.kept import Decided
from stockade.kubernetes.loading import Loaded
from stockade.kubernetes.resources import Key, Seen
from stockade.kubernetes.selecting import Choice, missing

Unmatched = Literal["leave", "deny"]


@dataclass(frozen=True, slots=True)
class InForce:
    """What there is of a policy. stable: what holds pods, None: nothing yet. trial: what some only look at; of how many in a hundred.

    broken: whom the newest would be for that does not load, where nothing of the policy ever did.
    """

    key: Key
    stable: Loaded | None = None
    trial: Loaded | None = None
    percent: int = 0
    broken: Choice | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is wanted of one pod. by: the policies whose files those are. tried: those of which it is in the share of a roll-out."""

    decided: Decided
    by: tuple[Loaded, ...] = ()
    tried: tuple[Loaded, ...] = ()
    why: str = ""
    keys: frozenset[Key] = field(default_factory=frozenset)


NOTHING = Decided((), "nothing")  # everything is refused
LEFT = Decided(None)


def answer(
    pod: Seen,
    policies: Collection[InForce],
    namespaces: Mapping[str, Mapping[str, str]],
    before: Decided | None,
    unmatched: Unmatched,
    share: Mapping[Key, int],
) -> Answer:
    """before: what was last decided of it; None: it is new. share: where the pod stands among all of each policy that is rolled out."""
    holding: list[Loaded] = []
    looking: list[Loaded] = []
    tried: list[Loaded] = []
    broken: list[Choice] = []
    for each in policies:
        if each.stable is not None and each.stable.choice.means(pod, namespaces):
            (looking if each.stable.observe else holding).append(each.stable)
        if each.trial is not None and share.get(each.key, 100) < each.percent and each.trial.choice.means(pod, namespaces):
            tried.append(each.trial)
        if each.broken is not None and each.broken.means(pod, namespaces):
            broken.append(each.broken)
    held = frozenset(each.key for each in looking)
    chosen: list[Loaded] = holding or [*looking, *(each for each in tried if each.key not in held)]
    every = frozenset([each.key for each in (*holding, *looking, *tried)] + [each.key for each in broken])
    named = [each.choice for each in (*holding, *looking, *tried)] + broken
    if absent := missing(pod, [*named, *_not_yet(pod, policies, namespaces)]):
        return Answer(NOTHING, why=f"it names the policy {absent[0]}, which is not there or not for it", keys=every)
    if broken and (before is None or not before.whole):
        why = f"the policy {broken[0].key} does not load, and never did"
        return Answer(Decided((), "nothing", whole=False), why=why, keys=every)
    if not chosen:
        return Answer(LEFT if unmatched == "leave" else NOTHING, keys=every, why="" if unmatched == "leave" else "no policy means it")
    chosen.sort(key=lambda each: each.choice.order)
    observe = not holding
    return Answer(Decided(tuple(each.file for each in chosen), revision(chosen, observe), observe), tuple(chosen), tuple(tried), keys=every)


def _not_yet(pod: Seen, policies: Collection[InForce], namespaces: Mapping[str, Mapping[str, str]]) -> list[Choice]:
    """Policies that mean it once they are rolled out further: they are there."""
    return [each.trial.choice for each in policies if each.trial is not None and each.trial.choice.means(pod, namespaces)]


def revision(chosen: Sequence[Loaded], observe: bool) -> str:
    """Another one for other files, another order, or another mode: a file never changes."""
    said = "\n".join([*(each.file.name for each in chosen), str(observe)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]
