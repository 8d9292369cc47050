"""What was allowed and refused over many hosts, added up by policy. Pure: from answers to sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stockade.fleet.reach import Asked


@dataclass(slots=True)
class Total:
    """Of one policy, by its name; of a cluster that is `KIND NAMESPACE/NAME`. hosts: where something is held to it.

    refused: kept out. unenforced: would have been, and was let through, since its policy only observes.
    """

    policy: str
    hosts: int = 0
    sandboxes: int = 0
    allowed: int = 0
    refused: int = 0
    unenforced: int = 0


def totals(asked: Sequence[Asked]) -> list[Total]:
    """Those with the most refusals first."""
    found: dict[str, Total] = {}
    for each in asked:
        met: set[str] = set()
        for sandbox in each.node.sandboxes if each.node is not None else ():
            total = found.setdefault(sandbox.policy, Total(sandbox.policy))
            total.hosts += sandbox.policy not in met
            met.add(sandbox.policy)
            total.sandboxes += 1
            total.allowed += sandbox.allowed
            total.refused += sandbox.kept_out
            total.unenforced += sandbox.unenforced
    return sorted(found.values(), key=lambda total: (-total.refused - total.unenforced, total.policy))
