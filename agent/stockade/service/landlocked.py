"""From what the kernel's audit says of Landlock to a record: which right was missing, on what, in which sandbox.

The count at the end of calls (refused.py) stays what it is, exact and independent of this. The two cannot be joined one to one: a message
names neither process nor call, and its path is the kernel's own, where the count has what the caller wrote. So this is evidence beside it,
with a reason of its own, and a lower bound.

A domain is a sandbox's when its user made it: a slot has a user that no other has. It is the one that Stockade made when the sandbox's init
did; another is what a program inside has put on itself. Keeps only what it needs to say whose.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stockade.kernel.denials import Denial, Denials, Domain, Ended, Told
from stockade.service.governed import Governed
from stockade.types import Action, Effect, Level, Outcome, Reason, Record

log = logging.getLogger(__name__)

APART = 64  # different refusals of one sandbox in one turn, each with its path; beyond them by right alone
_OWN = 0  # in the place of init's PID: an agent before this one knew it for the sandbox's own
DOMAINS = 256  # of one sandbox, whose programs may make any number; of more nothing is told
_WAITING = 1024  # denials whose domain comes behind them


@dataclass(frozen=True, slots=True)
class _Kind:
    """own: by the ruleset that Stockade made."""

    own: bool
    blockers: tuple[str, ...]
    path: bytes


class Landlocked:
    """first_user: slot number 0's, so to say; the user of number n is n above it."""

    def __init__(self, first_user: int, denials: Denials | None) -> None:
        self._first_user, self._denials = first_user, denials
        self._domains: dict[int, dict[int, Domain]] = {}  # by the sandbox's number, then by their own
        self._owners: dict[int, int] = {}  # number of the sandbox by the domain's
        self._waiting: list[Denial] = []
        self._said_missed = False

    @classmethod
    def listen(cls, first_user: int) -> Landlocked:
        """Where the kernel's audit cannot be listened to, nothing is told: a container's agent, an old kernel. No sandbox waits for it."""
        try:
            return cls(first_user, Denials())
        except OSError as error:
            log.debug("the kernel's audit is not listened to: %s", error.strerror)
            return cls(first_user, None)

    def news(self, governed: Mapping[int, Governed]) -> list[tuple[Governed, Record]]:
        """One record for all that was refused in the same way since the last time."""
        if self._denials is None:
            return []
        try:
            found = self.records(self._denials.take(), governed)
        except OSError as error:
            log.warning("the kernel's audit is not listened to any more: %s", error.strerror)
            self.close()
            return []
        if self._denials.missed and not self._said_missed:
            self._said_missed = True
            log.warning("the kernel's audit says more than is read: of what Landlock refused some is told only as counted")
        return found

    def records(self, told: Iterable[Told], governed: Mapping[int, Governed]) -> list[tuple[Governed, Record]]:
        """A denial comes before the message about its domain, perhaps by a turn; one whose domain is then unknown is nobody's."""
        denials, fresh, ended = self._waiting, len(self._waiting), set[int]()
        for each in told:
            match each:
                case Denial():
                    denials.append(each)
                case Domain():
                    self._own(each, governed)
                case Ended():
                    ended.add(each.domain)
        counts: dict[int, Counter[_Kind]] = {}
        waiting = []
        for place, denial in enumerate(denials):
            number = self._owners.get(denial.domain)
            if number is None:
                waiting += [denial] if place >= fresh else []
            elif governed[number].init is None:  # the sandbox is just being started: whose ruleset it was will be known
                waiting.append(denial)
            else:
                own = _is_own(self._domains[number][denial.domain], governed[number])
                _count(counts.setdefault(number, Counter()), _Kind(own, denial.blockers, denial.path))
        self._waiting = waiting[:_WAITING]
        for domain in ended & self._owners.keys():
            del self._domains[self._owners.pop(domain)][domain]
        return [
            (governed[number], _record(kind, times, governed[number])) for number, kinds in counts.items() for kind, times in kinds.items()
        ]

    def _own(self, domain: Domain, governed: Mapping[int, Governed]) -> None:
        number = domain.user - self._first_user
        if number not in governed:
            return
        known = self._domains.setdefault(number, {})
        if len(known) < DOMAINS or _is_own(domain, governed[number]):
            known[domain.domain] = domain
            self._owners[domain.domain] = number

    def own(self, governed: Governed) -> int | None:
        """The domain of the sandbox's own ruleset, which the kernel tells of once: for the agent that comes after this one."""
        known = self._domains.get(governed.number, {})
        return next((each.domain for each in known.values() if _is_own(each, governed)), None)

    def again(self, number: int, domain: int) -> None:
        """What `own` said to the agent before this one."""
        self._domains.setdefault(number, {})[domain] = Domain(domain, _OWN, self._first_user + number)
        self._owners[domain] = number

    def forget(self, number: int) -> None:
        """The sandbox has ended: its user may be another's."""
        for domain in self._domains.pop(number, ()):
            del self._owners[domain]

    def close(self) -> None:
        if self._denials is not None:
            self._denials.close()
            self._denials = None


def _is_own(domain: Domain, governed: Governed) -> bool:
    return domain.pid in (_OWN, governed.init)


def _count(kinds: Counter[_Kind], kind: _Kind) -> None:
    if kind not in kinds and len(kinds) >= APART:
        kind = _Kind(kind.own, kind.blockers, b"")
    kinds[kind] += 1


def _record(kind: _Kind, times: int, governed: Governed) -> Record:
    detail: dict[str, str | int | list[str]] = {
        "blockers": list(kind.blockers),
        "ruleset": "sandbox" if kind.own else "program",
        "at_least": times,
    }
    if kind.path:
        detail["path"] = os.fsdecode(kind.path)
    action = Action.FILE if kind.blockers[0].startswith("fs.") else Action.SYSCALL
    return Record(
        action,
        Outcome.DENY,
        Effect.REFUSE,
        Level.STATIC,
        Reason.LANDLOCK_REFUSED,
        generation=governed.policy.generation,
        detail=detail,
    )
