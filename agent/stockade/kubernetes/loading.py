"""A policy resource tried with the product's own loader: a file that loads and whom it is for, or what is wrong with which field."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stockade.kubernetes.kept import written
from stockade.kubernetes.plan import Plan, plan
from stockade.kubernetes.rendering import Rendered, render, told
from stockade.kubernetes.resources import Key, Resource
from stockade.kubernetes.selecting import Choice, Fault, choice
from stockade.policy.format.problems import PolicyError, Problem
from stockade.policy.hosts import LOCALHOST
from stockade.policy.load import load
from stockade.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Loaded:
    """One generation of a policy that loads. file: says it, and never anything else. observe: it refuses nothing.

    plan: how it is to be rolled out.
    """

    key: Key
    uid: str
    generation: int
    choice: Choice
    file: Path
    observe: bool = False
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """One that does not. choice: whom it would be for, as far as that can be read."""

    key: Key
    uid: str
    generation: int
    choice: Choice
    faults: tuple[Fault, ...]


def tried(resource: Resource, directory: Path) -> Loaded | Broken:
    """Writes its file into the directory. Blocks: for a thread. Raises OSError when it cannot be written."""
    meant, faults = choice(resource.key, resource.spec)
    rollout = plan(resource.spec["rollout"], faults) if "rollout" in resource.spec else None
    rendered = render(resource.key, resource.spec)
    faults += rendered.faults
    file = directory / _called(resource, rendered.text)
    if not faults:
        written(file, rendered.text.encode())
        try:
            policy = load([file], thorough=False)
            faults += () if resource.key.cluster else _of_the_node(policy, rendered, file)
        except PolicyError as error:
            faults += [rendered.located(problem) for problem in error.problems if problem.severity == "error"]
        if faults:
            file.unlink()
    if faults:
        return Broken(resource.key, resource.uid, resource.generation, meant, told(faults))
    observe = resource.spec.get("mode") == "observe"
    return Loaded(resource.key, resource.uid, resource.generation, meant, file, observe, rollout)


def _of_the_node(policy: Policy, rendered: Rendered, file: Path) -> list[Fault]:
    """What a policy of a namespace may not give: a pod that reached the node's loopback would reach what trusts the node."""
    said = "`localhost` is the node's own: its services trust whoever reaches them there; accepted: in a ClusterStockadePolicy"
    found = []
    for rule in policy.rules:
        places = policy.origins.in_rule(rule.name, "destination.allow")
        for pattern in rule.destination.allow:
            if pattern.value == LOCALHOST:
                place = places.get(pattern.text, rule.place)
                line = place.line if Path(place.path) == file else 0  # else of a preset
                found.append(rendered.located(Problem(place.path, line, 0, "of_the_node", f"rule `{rule.name}`: {said}")))
    return found


def composed(files: Sequence[Path]) -> Policy | str:
    """The policy of all of them, or what is wrong with them together. Blocks."""
    try:
        return load(files, thorough=False)
    except PolicyError as error:
        return str(next(problem for problem in error.problems if problem.severity == "error")).partition("\n")[0]


def _called(resource: Resource, text: str) -> str:
    """Readable, and another one for another text, generation or policy of that name."""
    unlike = hashlib.sha256(f"{resource.key}\n{resource.uid}\n{text}".encode()).hexdigest()[:12]
    place = f"of.{resource.key.namespace}" if resource.key.namespace else "cluster"
    return f"{place}.{resource.key.name[:120]}.{resource.generation}.{unlike}.yaml"
