"""A governed pod: one sandbox, with one policy, resolver, authority and worker's place, and a cgroup for each container of it.

The programs hang on the pod's own cgroup, and what is in none of the cgroups that are told here is denied by them: the container that holds
the namespaces, and any that nobody has looked at yet. A container's binaries are its own files; one that is started again has the same
numbers, so that no verdict is made twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stockade.attach.contained import Contained
from stockade.attach.device import Closed
from stockade.kernel.abi import FileFacts, Network
from stockade.kernel.maps import Maps
from stockade.policy import Policy
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.roster import Enrolment, Roster
from stockade.types import Record, Sandbox, StockadeError

REMEMBERED = 256  # containers that have ended, for records of them that are under way


@dataclass(slots=True)
class Place:
    """A container in its pod. number: from 1, of no other one, ever. draw: what may run in it under a policy; in a thread.

    cgroup_id: its cgroup's, known also when that is gone. outside: the mount namespace of its runtime.
    """

    number: int
    name: str
    image: str
    identity: str
    cgroup: Cgroup
    cgroup_id: int
    outside: int
    draw: Callable[[Policy], Roster]
    roster: Roster = dataclasses.field(default_factory=Roster)
    files: frozenset[FileFacts] = frozenset()  # what of it the kernel was told

    @property
    def labels(self) -> dict[str, str]:
        known = {"container": self.name, "container_id": self.identity[:12], "image": self.image}
        return {key: value for key, value in known.items() if value}


class Podded(Contained):
    def __init__(
        self, number: int, sandbox: Sandbox, cgroup: Cgroup, policy: Policy, maps: Maps, network: Network, device: Closed, *, shared: bool
    ) -> None:
        super().__init__(number, sandbox, cgroup, policy, Roster(), maps, network, device, shared=shared)
        self.places: dict[int, Place] = {}
        self._numbers: dict[tuple[str, ...], int] = {}  # of (container, file, script, hash)
        self._known: dict[int, Place] = {}  # also of those that have ended: records of them may be under way
        self._drawn_for = policy

    # containers

    def join(self, place: Place) -> None:
        """Take up a container in which nothing of its own runs yet, or nothing moves. In a thread, while no generation is made.

        Raises OSError, ValueError: nothing of it is in force.
        """
        self._take_in(place, self.policy)
        self.places[place.number] = self._known[place.number] = place
        self._gather()
        self._permit(self.policy, place.roster)
        self._switch_at(place, self.policy)
        self._maps.look_at(place.cgroup.level)

    def part(self, place: Place) -> None:
        """It has ended. In a thread, while no generation is made."""
        self._maps.forget(place.cgroup_id)
        self.places.pop(place.number, None)
        self._strike(place.files)
        place.roster.close()
        self._gather()
        place.draw = _over
        for number in sorted(self._known.keys() - self.places.keys())[:-REMEMBERED]:
            del self._known[number]

    def _take_in(self, place: Place, policy: Policy) -> None:
        """Draw up its roster anew, and tell the kernel of it."""
        drawn = place.draw(policy)
        roster = dataclasses.replace(drawn, enrolments=self._numbered(place, drawn))
        try:
            self._take_up(roster)
        except (OSError, ValueError):
            roster.close()
            raise
        before, told = place.roster, place.files
        place.roster = roster
        place.files = frozenset(self._facts[enrolment.number] for enrolment in roster if not enrolment.scripts)
        self._strike(told)
        before.close()

    def _strike(self, files: frozenset[FileFacts]) -> None:
        """Those that are in no container any more."""
        for facts in files.difference(*(place.files for place in self.places.values())):
            self._maps.strike(self.number, facts)

    def _numbered(self, place: Place, roster: Roster) -> dict[int, Enrolment]:
        """With numbers of this pod's own, instead of those from 1."""
        numbers = {0: 0}
        for enrolment in roster:
            key = place.name, enrolment.binary.path, enrolment.binary.script or "", enrolment.binary.sha256
            numbers[enrolment.number] = self._numbers.setdefault(key, len(self._numbers) + 1)
        return {
            numbers[enrolment.number]: dataclasses.replace(
                enrolment, number=numbers[enrolment.number], interpreter=numbers[enrolment.interpreter]
            )
            for enrolment in roster
        }

    def _gather(self) -> None:
        """Put the rosters of all containers together; in one assignment, since the loop reads them meanwhile."""
        places = list(self.places.values())
        enrolments = {number: enrolment for place in places for number, enrolment in place.roster.enrolments.items()}
        found = [set(place.roster.missing) for place in places]
        self.roster = Roster(enrolments, missing=tuple(sorted(set.intersection(*found))) if found else ())

    def _permit(self, policy: Policy, enrolments: Iterable[Enrolment]) -> None:
        """The verdicts in force, for those that were not there when they were made."""
        theirs = list(enrolments)
        networked = self._networked(policy, theirs)
        published = list(self._published.get(policy.generation, ()))
        verdicts = [
            verdict
            for index, name in list(self.table)
            if index in published
            for verdict in self._verdicts_for(policy, networked, theirs, index, name)
        ]
        self._maps.set_verdicts(self.number, policy.generation, verdicts)
        self._compile_addresses(policy, networked)

    # policies

    def demand(self, on_disk: Policy, following: Policy) -> None:
        """Its files are looked up again for every policy: nothing is given to it once and for all."""

    def compile(self, policy: Policy) -> None:
        """Into the maps. When that fails what is in force is there again as it was. Raises OSError, ValueError, StockadeError."""
        if policy.generation != self.policy.generation and _names(policy) != _names(self._drawn_for):
            try:
                self._draw(policy)
                super().compile(policy)
            except (OSError, ValueError, StockadeError):
                with contextlib.suppress(OSError, ValueError, StockadeError):
                    self._draw(self.policy)  # what is in force stays so, whole
                raise
        else:
            super().compile(policy)

    def _draw(self, policy: Policy) -> None:
        """Every container's roster anew."""
        self._drawn_for = policy
        try:
            for place in list(self.places.values()):
                try:
                    self._take_in(place, policy)
                except (OSError, StockadeError):
                    if place.cgroup.populated():
                        raise
                    continue  # it has just ended, and is parted from in its turn
        finally:
            self._gather()

    def _put_in_force(self, policy: Policy) -> None:
        for place in list(self.places.values()):
            self._switch_at(place, policy)

    def _switch_at(self, place: Place, policy: Policy) -> None:
        self._maps.switch(self.number, place.cgroup_id, policy.generation, self.flags_of(policy), place=place.number, outside=place.outside)

    # records

    def sandbox_of(self, record: Record) -> Sandbox:
        execed = self._execs.get(record.exec_id) if record.exec_id else None
        place = self._known.get(execed.place) if execed is not None else None
        return self.sandbox if place is None else self.within(place)

    def within(self, place: Place) -> Sandbox:
        """The pod as a record of this container names it."""
        return dataclasses.replace(self.sandbox, labels=self.sandbox.labels | place.labels)


def _over(_policy: Policy) -> Roster:
    """Of a container that has ended: its records name it still."""
    return Roster()


def _names(policy: Policy) -> tuple[object, ...]:
    """What a roster depends on."""
    return frozenset(policy.binary_names()), policy.exec
