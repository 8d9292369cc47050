"""What `spec.rollout` says: stages, each a share of the pods and how long, and what ends it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from stockade.kubernetes.resources import Key
from stockade.kubernetes.selecting import Fault

_LENGTH = re.compile("([1-9][0-9]{0,5})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Stage:
    """percent: of the pods that it is for. seconds: how long they are looked at."""

    percent: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """maximum: how many unexpected refusals there may be, on all nodes. back: more of them, and what was before is in force again."""

    stages: tuple[Stage, ...]
    maximum: int = 0
    back: bool = True


def share(key: Key, uid: str) -> int:
    """Where a pod stands among all, from 0 to 99: the same on every node, and for another policy another."""
    return int.from_bytes(hashlib.sha256(f"{key}\n{uid}".encode()).digest()[:8]) % 100


def plan(value: Any, faults: list[Fault]) -> Plan | None:
    """None where something of it is wrong; faults has what."""
    before = len(faults)
    if not isinstance(value, dict):
        faults.append(Fault("spec.rollout", "a roll-out is a mapping with `stages`", "wrong_type"))
        return None
    for name in value.keys() - {"stages", "maximumUnexpected", "rollback"}:
        accepted = "accepted: stages, maximumUnexpected, rollback"
        faults.append(Fault(f"spec.rollout.{name}", f"a roll-out has no key `{name}`; {accepted}", "unknown_key"))
    stages = [_stage(each, f"spec.rollout.stages[{at}]", faults) for at, each in enumerate(_listed(value.get("stages"), faults))]
    shares = [stage.percent for stage in stages]
    if shares != sorted(shares):
        faults.append(Fault("spec.rollout.stages", "a later stage has no smaller share", "bad_number"))
    maximum, back = value.get("maximumUnexpected", 0), value.get("rollback", True)
    if type(maximum) is not int or not 0 <= maximum <= 1_000_000:
        faults.append(Fault("spec.rollout.maximumUnexpected", "a number from 0 to 1000000", "bad_number"))
    if type(back) is not bool:
        faults.append(Fault("spec.rollout.rollback", "true or false", "wrong_type"))
    return Plan(tuple(stages), maximum, back) if len(faults) == before else None


def _listed(value: Any, faults: list[Fault]) -> list[Any]:
    if isinstance(value, list) and 0 < len(value) <= 16:
        return value
    faults.append(Fault("spec.rollout.stages", "1 to 16 stages; accepted: [{percent: 10, for: 10m}]", "wrong_type"))
    return []


def _stage(value: Any, field: str, faults: list[Fault]) -> Stage:
    if not isinstance(value, dict) or value.keys() != {"percent", "for"}:
        faults.append(Fault(field, "a stage is {percent: 10, for: 10m}", "wrong_type"))
        return Stage(0, 0)
    percent, lasts = value["percent"], value["for"]
    if type(percent) is not int or not 1 <= percent <= 100:
        faults.append(Fault(f"{field}.percent", "a number from 1 to 100", "bad_number"))
        percent = 0
    found = _LENGTH.fullmatch(lasts) if isinstance(lasts, str) else None
    if found is None:
        faults.append(Fault(f"{field}.for", "a length of time; accepted: 30s, 10m, 2h, 1d", "bad_number"))
        return Stage(percent, 0)
    return Stage(percent, float(int(found[1]) * _SECONDS[found[2]]))
