"""The cluster's policies as this node knows them: of each the newest generation, what came of trying it, and which one is in force.

A generation that does not load replaces none that did. One that is rolled out in stages is beside the one before until it is complete.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from stockade.kubernetes.api import Away, Denied, Expired
from stockade.kubernetes.loading import Broken, Loaded, composed, tried
from stockade.kubernetes.reporting import Reporter, now
from stockade.kubernetes.resources import Json, Key, Resource
from stockade.kubernetes.rollout import Stand, step
from stockade.kubernetes.selecting import NOBODY, Choice, Fault
from stockade.kubernetes.status import Said
from stockade.kubernetes.trial import Trial
from stockade.kubernetes.wanting import InForce
from stockade.policy.model import Policy as Composed

_log = logging.getLogger(__name__)

AGAIN = 10.0  # seconds until what the disk did not take is tried again
_LATEST = 60.0  # seconds by which the step of a roll-out may be late, in a large cluster
_TOGETHER = 512  # compositions that are remembered


@dataclass(slots=True)
class Counts:
    """Of requests of the pods that a policy holds, on this node, since the agent runs."""

    allowed: int = 0
    refused: int = 0
    unenforced: int = 0


@dataclass(slots=True)
class Policy:
    """latest: as the API has it. verdict: on that generation. good: what is in force, and the resource it was made of.

    percent: of the pods that the newest means, how many are looked at; None: it is not rolled out in stages, or that is over.
    """

    latest: Resource | None = None
    verdict: Loaded | Broken | None = None
    good: Loaded | None = None
    source: Resource | None = None
    percent: int | None = None
    trial: Trial = field(default_factory=Trial)
    counts: Counts = field(default_factory=Counts)

    @property
    def tried(self) -> bool:
        latest, verdict = self.latest, self.verdict
        return latest is not None and verdict is not None and (verdict.uid, verdict.generation) == (latest.uid, latest.generation)

    def in_force(self, key: Key) -> InForce:
        broken = self.verdict.choice if isinstance(self.verdict, Broken) and self.good is None else None
        trial = self.verdict if isinstance(self.verdict, Loaded) and self.percent is not None else None
        return InForce(key, self.good, trial, self.percent or 0, broken)


class Generations:
    """again: called where something is to be tried again, after a while."""

    def __init__(self, directory: Path, again: Callable[[], None]) -> None:
        self._directory, self._again = directory, again
        self.policies: dict[Key, Policy] = {}
        self._together: dict[tuple[Path, ...], Composed | str] = {}

    def resume(self, sources: Iterable[Resource]) -> None:
        """What was in force before, and is on the disk."""
        for resource in sources:
            self.policies.setdefault(resource.key, Policy()).source = resource

    def hear(self, item: Resource, gone: bool) -> bool:
        """False: nothing follows from it, as from most of what nodes write into a status."""
        if gone:
            known = self.policies.get(item.key)
            if known is None or known.latest is None or known.latest.uid == item.uid:
                self.policies.pop(item.key, None)
            return True
        policy = self.policies.setdefault(item.key, Policy())
        before, policy.latest = policy.latest, item
        if before is not None and before.uid != item.uid:
            policy.counts = Counts()
        return before is None or _says(before) != _says(item)

    def only(self, there: set[Key], cluster: bool) -> None:
        """Of one kind, these are all."""
        for key in [key for key in self.policies if key.cluster == cluster and key not in there]:
            del self.policies[key]

    def latest(self, key: Key) -> Resource | None:
        policy = self.policies.get(key)
        return policy.latest if policy is not None else None

    def files(self) -> set[Path]:
        """Those that may be needed again."""
        good = {policy.good.file for policy in self.policies.values() if policy.good is not None}
        return good | {policy.verdict.file for policy in self.policies.values() if isinstance(policy.verdict, Loaded)}

    def sources(self) -> tuple[Resource, ...]:
        """What is in force, without what nodes say of it."""
        sources = [policy.source for policy in self.policies.values() if policy.source is not None]
        return tuple(replace(source, version="", status={}) for source in sources)

    async def learn(self) -> None:
        """Try what is new, and what was good and is on the disk alone."""
        for key, policy in list(self.policies.items()):
            if policy.good is None and policy.source is not None:
                was = await self._tried(policy.source)
                policy.good = was if isinstance(was, Loaded) else None
            latest = policy.latest
            if latest is not None and not policy.tried and (verdict := await self._tried(latest)) is not None:
                policy.verdict, policy.trial = verdict, Trial()
                if isinstance(verdict, Loaded):
                    _log.info("%s %s: generation %d loads", key.kind, key, verdict.generation)
                else:
                    wrong = f"{verdict.faults[0].field}: {verdict.faults[0].message}"
                    _log.warning("%s %s: generation %d does not load: %s", key.kind, key, verdict.generation, wrong)
            await self._settle(policy)

    async def _settle(self, policy: Policy) -> None:
        """What of a policy is in force, and what is only looked at.

        Every node may write the status. So it says how far a roll-out is, and never what is in force instead of what this node has itself:
        only a node that has nothing of the policy takes what was stable before from there.
        """
        latest, verdict, good = policy.latest, policy.verdict, policy.good
        if latest is None or not isinstance(verdict, Loaded) or not policy.tried:
            return
        stand = Stand.of(latest)
        begun = stand is not None and stand.generation == latest.generation
        mine = good is not None and good.uid == latest.uid
        over = mine and good is not None and good.generation == latest.generation  # it was complete, whatever is said of it now
        if verdict.plan is None or over or (stand is not None and begun and stand.state == "Complete"):
            policy.good, policy.source, policy.percent = verdict, latest, None
            return
        policy.percent = stand.percent(verdict.plan) if stand is not None and begun else 0
        if mine or stand is None or (good is not None and not begun):
            return
        if stand.stable is None:
            policy.good = policy.source = None  # it was of another policy of that name
            return
        source = replace(latest, generation=stand.stable[0], spec=stand.stable[1])
        was = await self._tried(source)
        if isinstance(was, Loaded):
            policy.good, policy.source = was, source

    async def _tried(self, resource: Resource) -> Loaded | Broken | None:
        try:
            return await asyncio.to_thread(tried, resource, self._directory)
        except OSError as error:
            _log.error("%s %s cannot be written, and is tried again: %s", resource.key.kind, resource.key, error)
            asyncio.get_running_loop().call_later(AGAIN, self._again)
            return None
        except Exception as error:  # whatever it says, it must not end the agent that holds everybody else's pods
            _log.exception("%s %s", resource.key.kind, resource.key)
            fault = Fault("spec", f"it could not be read: {type(error).__name__}", "unreadable")
            return Broken(resource.key, resource.uid, resource.generation, Choice(resource.key, selector=NOBODY), (fault,))

    async def composed(self, files: tuple[Path, ...]) -> Composed | str:
        """The policy of these files, or what is wrong with them."""
        if files not in self._together:
            if len(self._together) >= _TOGETHER:
                self._together.clear()
            self._together[files] = await asyncio.to_thread(composed, files)
        return self._together[files]

    async def roll(self, reporter: Reporter, concerned: Callable[[Key], bool]) -> None:
        """Take the next step of each roll-out when it is due, unless another node has. Until it is cancelled.

        concerned: whether a pod of this node has to do with a policy. Nodes without one leave it to the others for a while.
        """
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5))
            for key, policy in list(self.policies.items()):
                if (latest := policy.latest) is None or (change := _next(policy)) is None or change(latest) is None:
                    continue
                spread = min(_LATEST, reporter.spread(known=False))
                await asyncio.sleep(random.uniform(0, 0.2 + spread) + (0 if concerned(key) else random.uniform(2, 20 + spread)))
                try:
                    await asyncio.to_thread(reporter.swap, key, change)
                except (Away, Denied, Expired) as error:
                    _log.warning("the roll-out of %s %s waits: %s", key.kind, key, error)
                    await asyncio.sleep(AGAIN)


def _next(policy: Policy) -> Callable[[Resource], Said | None] | None:
    """What becomes of the object with the next step, for the generation that was tried here."""
    verdict, source = policy.verdict, policy.source
    if not isinstance(verdict, Loaded) or not policy.tried:
        return None
    before: tuple[int, Json] | None = None
    if source is not None and source.generation < verdict.generation:
        before = source.generation, source.spec

    def change(resource: Resource) -> Said | None:
        if (resource.uid, resource.generation) != (verdict.uid, verdict.generation):
            return None
        return step(resource, verdict.plan, before, time.time(), now())

    return change


def _says(resource: Resource) -> object:
    return resource.uid, resource.generation, resource.status.get("rollout")
