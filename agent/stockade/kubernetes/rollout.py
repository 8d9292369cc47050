"""Where the roll-out of a policy's newest generation stands, and what comes next. Pure.

    Progressing  its stages, one after the other: a share of the pods is looked at, and what was in force before holds all the same
    Complete     every pod that it means is held to it
    RolledBack   there was more that nobody expected than may be: what was before stays in force until the policy is edited
    Paused       the same where `rollback` is false: it stays at its stage

It stands in the resource's status, and what was before with it, so that a node that comes later knows both. No node leads: any of them may
take the next step, and it counts for the version of the object that it was taken from alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from stockade.kubernetes.plan import Plan
from stockade.kubernetes.resources import Json, Resource
from stockade.kubernetes.status import Said, conditions, of_mappings

LATE = 3.0  # seconds for the last word of a stage to arrive


@dataclass(frozen=True, slots=True)
class Stand:
    """What the status says of it. stable: the generation before and its spec; None: there was none."""

    generation: int
    state: str
    stage: int
    since: float
    stable: tuple[int, Json] | None

    @classmethod
    def of(cls, resource: Resource) -> Stand | None:
        """None: it says nothing, or nothing that can be read."""
        said = resource.status.get("rollout")
        if not isinstance(said, dict):
            return None
        stable, found = said.get("stable"), None
        if isinstance(stable, dict) and isinstance(stable.get("spec"), dict) and isinstance(stable.get("generation"), int):
            found = stable["generation"], stable["spec"]
        try:
            since = datetime.fromisoformat(said.get("since") or "").timestamp()
            return cls(int(said.get("generation", 0)), str(said.get("state", "")), int(said.get("stage", 0)), since, found)
        except (TypeError, ValueError):
            return None

    def percent(self, plan: Plan) -> int:
        """Of the pods that it means, how many are looked at."""
        if self.state not in ("Progressing", "Paused"):
            return 0
        return plan.stages[min(max(self.stage, 0), len(plan.stages) - 1)].percent


def step(resource: Resource, plan: Plan | None, before: tuple[int, Json] | None, at: float, now: str) -> Said | None:
    """The status after the next step; None: there is none to take yet.

    plan: of the newest generation, None: it has none. before: what was in force on this node. at, now: the time, as seconds and as text.
    """
    stand = Stand.of(resource)
    if plan is None:
        return _without(resource) if "rollout" in resource.status or _condition(resource) else None
    if stand is None or stand.generation != resource.generation:
        stable = before if stand is None else stand.stable
        message = f"stage 1 of {len(plan.stages)}: {plan.stages[0].percent} % are looked at"
        return _said(resource, "Progressing", 0, now, 0, stable, now, message)
    if stand.state != "Progressing":
        return None
    unexpected = found(resource)
    stage = min(max(stand.stage, 0), len(plan.stages) - 1)
    if len(unexpected) > plan.maximum:
        first = f"{len(unexpected)} unexpected, of {plan.maximum} that may be: {unexpected[0]}"
        state = "RolledBack" if plan.back else "Paused"
        return _said(resource, state, stage, resource.status["rollout"]["since"], len(unexpected), stand.stable, now, first)
    if at < stand.since + plan.stages[stage].seconds + LATE:
        return None
    if stage + 1 < len(plan.stages):
        percent = plan.stages[stage + 1].percent
        message = f"stage {stage + 2} of {len(plan.stages)}: {percent} % are looked at"
        return _said(resource, "Progressing", stage + 1, now, len(unexpected), stand.stable, now, message)
    done = resource.generation, resource.spec
    return _said(resource, "Complete", stage, now, len(unexpected), done, now, "every pod that it means is held to it")


def found(resource: Resource) -> list[str]:
    """What nodes say was not expected of the newest generation; where they do not name all of it, how much more."""
    texts: list[str] = []
    for each in of_mappings(resource.status, "nodes"):
        if each.get("observedGeneration") == resource.generation:
            named = [f"{text} ({each.get('name')})" for text in each.get("unexpected") or ()]
            texts += named + ["and more"] * max(0, int(each.get("unexpectedCount") or 0) - len(named))
    return texts


def _said(
    resource: Resource, state: str, stage: int, since: str, unexpected: int, stable: tuple[int, Json] | None, now: str, message: str
) -> Said:
    rollout: Json = {"generation": resource.generation, "state": state, "stage": stage, "since": since, "unexpected": unexpected}
    if stable is not None:
        rollout["stable"] = {"generation": stable[0], "spec": stable[1]}
    status = {"Progressing": "True", "Complete": "True", "RolledBack": "False", "Paused": "False"}[state]
    all_of_it = conditions(resource.status, [("Progressing", status, state, message)], resource.generation, now)
    return Said(resource.status | {"rollout": rollout, "conditions": all_of_it})


def _condition(resource: Resource) -> bool:
    return any(each.get("type") == "Progressing" for each in of_mappings(resource.status, "conditions"))


def _without(resource: Resource) -> Said:
    status = {name: value for name, value in resource.status.items() if name != "rollout"}
    left = [each for each in of_mappings(status, "conditions") if each.get("type") != "Progressing"]
    return Said(status | {"conditions": left})
