"""How a sandbox whose agent died is governed on: what is checked before anything of it is opened, and what is told of it.

The newest policy is in force before anybody listens; where it cannot be read, the one that was. Whose kernel, trail and worker it is from
now on is the station's that it is resumed at.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from stockade import signing
from stockade.audit import Trail
from stockade.kernel.load import Lost
from stockade.policy import Policy
from stockade.policy.summary import summary
from stockade.sandbox.launch import Sockets
from stockade.sandbox.limits import Limits, Wanted
from stockade.sandbox.roster import HELD, Enrolment, Roster
from stockade.service.generations import Detail, Load
from stockade.service.governed import Governed
from stockade.service.session import load_for
from stockade.service.slots import Slot
from stockade.service.state import State
from stockade.service.static import demand_same
from stockade.service.station import Station
from stockade.service.tenure import Charge, Tenure
from stockade.service.watch import Watch
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, Sandbox, StockadeError


@dataclass(frozen=True, slots=True)
class Resumed:
    """tenure: not begun. silence: seconds since its last agent gave a sign of life. why: what kept the newest policy out."""

    station: Station
    tenure: Tenure
    governed: Governed
    found: State
    changed: list[str]
    silence: float
    why: StockadeError | None

    def tell(self, since: float) -> int:
        """The records of it, once everything answers. since: seconds since it was found. The seconds without an agent, at most."""
        gap, policy = math.ceil(self.silence + since), self.governed.policy
        detail: Detail = {
            "gap_seconds": gap,
            "init": self.found.init.pid,
            "sources": [str(path) for path in policy.sources],
            "changed_binaries": self.changed,
            **signing.said(self.tenure.renewal.authority),
            **summary(policy),
        }
        self.station.agent.lifecycle(self.governed, Reason.ADOPTED, detail)
        if self.why is not None:
            said: Detail = {"why": str(self.why), "cause": ["adoption"]}
            record = Record(Action.POLICY, Outcome.DENY, Effect.REFUSE, Level.STATIC, Reason.RELOAD_REFUSED, detail=said)
            self.station.agent.write(self.governed, record)
        return gap


async def resume(
    station: Station, slot: Slot, found: State, names: list[tuple[int, str]], sockets: Sockets, lost: Callable[[], list[str]]
) -> Resumed:
    """Have its newest policy in force. names: behind its synthetic addresses. lost: what no longer holds it.

    Raises Lost: it is not held any more. Raises StockadeError.
    """
    kept, maps = found.kept, station.kernel.maps
    in_force = maps.generation(slot.sandbox.id)
    if in_force is None:
        raise Lost("the sandbox's cgroup is no longer governed")
    watch, load = Watch(), load_for(kept.order, found.sandbox.name, kept.binds)
    following, why = await asyncio.to_thread(_following, found, watch, load, in_force + 1)
    sandbox = Sandbox(found.sandbox.id, found.sandbox.name, kept.policy.name, in_force, dict(kept.policy.labels))
    governed = Governed(slot.number, sandbox, slot.sandbox, kept.policy, _roster(kept.enrolments), maps, station.settings.network)
    try:
        changed = governed.resume(following, in_force, kept.facts, names)
    except (OSError, ValueError) as error:
        raise Lost(f"its policy cannot be put in force again: {error}") from None
    process = following.process
    wanted = Wanted(process.pids, process.memory, process.cpu)
    limits = Limits.impose(slot.sandbox, wanted, best_effort="limits" in following.best_effort)
    kept = dataclasses.replace(kept, policy=following)
    tenure = Tenure(station, Charge(slot, governed, sockets, limits, watch, load, lost, kept, found.build))
    silence, counted = slot.last_beat()
    tenure.count_on(counted)
    return Resumed(station, tenure, governed, found, changed, silence, why)


def end(slot: Slot, found: State, trail: Trail, lost: list[str]) -> StockadeError:
    """What held it is gone: nothing of it may live on."""
    policy = found.kept.policy
    with contextlib.suppress(ProcessLookupError):
        if found.init.lives:
            os.kill(found.init.pid, signal.SIGKILL)
    slot.sandbox.kill()
    sandbox = Sandbox(found.sandbox.id, found.sandbox.name, policy.name, policy.generation, dict(policy.labels))
    for outcome, effect, reason, detail in (
        (Outcome.DENY, Effect.REFUSE, Reason.ENFORCEMENT_LOST, {"lost": lost}),
        (Outcome.ALLOW, Effect.PASS, Reason.STOPPED, {"status": 137}),
    ):
        trail.append(sandbox, Record(Action.LIFECYCLE, outcome, effect, Level.STATIC, reason, detail=dict(detail)))
    said = f"what holds {found.sandbox.name} was taken away while it had no agent, so it was killed: {'; '.join(lost)}"
    return StockadeError(said, hint="somebody with root's rights did that", code="enforcement_lost")


def _following(found: State, watch: Watch, load: Load, generation: int) -> tuple[Policy, StockadeError | None]:
    """The policy as it is on disk now, when a reload would take it; else the one that was in force, and why. In a thread."""
    kept = found.kept
    enrolled = frozenset(kept.policy.binary_names()).union(*(enrolment.binary.names for enrolment in kept.enrolments))
    try:
        with watch.reading() as named:
            newest = load(generation, named)
            named += newest.sources
            demand_same(kept.policy, newest, enrolled)
    except StockadeError as error:
        return kept.policy.with_generation(generation), error
    return newest, None


def _roster(enrolments: tuple[Enrolment, ...]) -> Roster:
    """The same numbers for the same files, opened again; a file that is gone has descriptor -1."""
    opened: dict[str, int] = {}
    roster = Roster()
    for enrolment in enrolments:
        path = enrolment.file.path
        if path not in opened:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                opened[path] = HELD.share(descriptor, os.fstat(descriptor))
                roster.descriptors.append(opened[path])
            except OSError:
                opened[path] = -1
        file = dataclasses.replace(enrolment.file, descriptor=opened[path])
        roster.enrolments[enrolment.number] = dataclasses.replace(enrolment, file=file)
    return roster
