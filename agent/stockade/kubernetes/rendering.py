"""A resource's spec as a policy file of ours, line by line, so that what the loader says of a line is said of a field.

Only what is the policy's is written. A rule's name gets the policy's before it: policies of different authors compose, and no record says
`pypi` of two. What names a file or a variable of the node is refused here: who may write a policy of a namespace is not who may read the
node.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from stockade.kubernetes.resources import Json, Key
from stockade.kubernetes.selecting import Fault
from stockade.policy.format.crd import LEFT_OUT
from stockade.policy.format.document import MAX_DEPTH, quoted
from stockade.policy.format.problems import Problem

ITS_OWN = ("selector", "namespaceSelector", "priority", "rollout")  # of the resource, not of the policy
_PRESET = re.compile(r"presets/[A-Za-z0-9][A-Za-z0-9._-]*")
_NAMED = 64  # characters of a rule's name
_MOST = 16  # faults that a status has room for
_LONGEST = 400  # characters of one of them


@dataclass(frozen=True, slots=True)
class Rendered:
    """text: the file. fields: what stands on each line, the first one being fields[0]. faults: what was refused before it was written."""

    text: str
    fields: tuple[str, ...]
    faults: tuple[Fault, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def located(self, problem: Problem) -> Fault:
        """What the loader says, as the resource's author reads it."""
        line = problem.line if 0 < problem.line <= len(self.fields) else 0
        accepted = f"; accepted: {problem.accepted}" if problem.accepted else ""
        return Fault(self.fields[line - 1] if line else "spec", f"{problem.message}{accepted}"[:_LONGEST], problem.code, line)


def told(faults: list[Fault]) -> tuple[Fault, ...]:
    return tuple(faults[:_MOST])


def render(key: Key, spec: Json) -> Rendered:
    faults = list(_refused(key, spec))
    lines = _Lines(faults)
    lines.add(0, "version: 1", "apiVersion")
    lines.add(0, f"name: {quoted(key.name)}", "metadata.name")
    if "mode" not in spec:  # else another policy that only observes would speak for this one
        lines.add(0, "mode: enforce", "spec.mode")
    for name, value in _ordered(spec):
        if name in ITS_OWN or name in LEFT_OUT:
            continue
        lines.write(0, quoted(name), _prefixed(key, value) if name == "network" else value, f"spec.{name}")
    return Rendered("\n".join(lines.text) + "\n", tuple(lines.fields), told(faults))


def _prefixed(key: Key, rules: Any) -> Any:
    if not isinstance(rules, list):
        return rules
    return [
        rule | {"name": named(key, rule["name"])} if isinstance(rule, dict) and isinstance(rule.get("name"), str) else rule
        for rule in rules
    ]


def named(key: Key, rule: str) -> str:
    """What a rule is called among those of other policies. The policy's own name is cut where both are too long together."""
    room = _NAMED - len(rule) - 1
    head = (f"cluster.{key.name}" if key.cluster else key.name)[: max(room, 0)].rstrip(".-")
    return f"{head}.{rule}" if head else rule


def _ordered(value: Json) -> list[tuple[str, Any]]:
    """As the API server writes it, whatever the author's order was, but for the name: a line is the same one wherever it is counted."""
    return sorted(value.items(), key=lambda entry: (entry[0] != "name", entry[0]))


def _refused(key: Key, spec: Json) -> list[Fault]:
    faults = [Fault(f"spec.{name}", f"a resource has no `{name}`: {LEFT_OUT[name]}", "unknown_key") for name in spec if name in LEFT_OUT]
    extends = spec.get("extends")
    for position, entry in enumerate(extends if isinstance(extends, list) else ()):
        if isinstance(entry, str) and not _PRESET.fullmatch(entry):
            said = "a resource builds on presets alone, it has no file beside it; accepted: presets/NAME"
            faults.append(Fault(f"spec.extends[{position}]", said, "unknown_preset"))
    privacy = _under(spec, "privacy")
    if "dictionaries" in _under(privacy, "detect"):
        faults.append(Fault("spec.privacy.detect.dictionaries", "a dictionary is a file, and a resource has none beside it", "unknown_key"))
    if "local" in privacy and not key.cluster:
        said = "the local model is asked by the node, with the agent's own key; accepted: in a ClusterStockadePolicy"
        faults.append(Fault("spec.privacy.local", said, "of_the_node"))
    return faults


def _under(value: Json, name: str) -> Json:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


class _Lines:
    """Block style, one scalar a line; every text in double quotes, so that nothing in it is YAML."""

    def __init__(self, faults: list[Fault]) -> None:
        self.text: list[str] = []
        self.fields: list[str] = []
        self._faults = faults

    def add(self, depth: int, text: str, field: str) -> None:
        self.text.append("  " * depth + text)
        self.fields.append(field)

    def write(self, depth: int, head: str, value: Any, field: str) -> None:
        """head: what stands before the value, `name` or `-`."""
        mark = head if head == "-" else f"{head}:"
        if depth >= MAX_DEPTH:
            self._faults.append(Fault(field, f"nested deeper than {MAX_DEPTH} levels", "syntax"))
        elif isinstance(value, dict) and value:
            self.add(depth, mark, field)
            for name, each in _ordered(value):
                self.write(depth + 1, quoted(name), each, f"{field}.{name}")
        elif isinstance(value, list) and value:
            self.add(depth, mark, field)
            for position, each in enumerate(value):
                self.write(depth + 1, "-", each, f"{field}[{position}]")
        else:
            self.add(depth, f"{mark} {quoted(value) if isinstance(value, str) else json.dumps(value)}", field)
