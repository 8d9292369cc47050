"""A policy of what Stockade did not start: who may come in is for the kernel and the device, and nothing to open doors for.

Carried with the policy, so that one that is read and refused changes nothing, and one that is put in force again has its own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

from stockade.policy import Policy
from stockade.policy.model import Inbound


@dataclass(frozen=True, slots=True)
class Entered(Policy):
    """entrances: what `inbound` says; that itself is empty here."""

    entrances: tuple[Inbound, ...] = ()

    # a dataclass with slots would make its own, which carry what a worker does not need
    __getstate__ = Policy.__getstate__
    __setstate__ = Policy.__setstate__

    @classmethod
    def of(cls, policy: Policy) -> Self:
        found = {item.name: getattr(policy, item.name) for item in dataclasses.fields(policy) if item.init}
        return cls(**found | {"inbound": (), "entrances": policy.inbound})


def entrances(policy: Policy) -> tuple[Inbound, ...]:
    return policy.entrances if isinstance(policy, Entered) else ()
