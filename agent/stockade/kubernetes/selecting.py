"""Which policies a pod is held to, and in which order. Pure.

By label where a policy has a selector; else it is for the pods that name it in the annotation. Those of the cluster stand first, then what
has the higher priority, then by name. All compose: any deny of any of them vetoes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stockade.kubernetes.resources import Json, Key, Seen

_LABEL = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)"
_NAME = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_LABEL}")
_VALUE = re.compile(rf"{_LABEL}?")
_PRIORITY = range(-1000, 1001)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a field of a policy. field: as spec.selector.matchLabels.app. line: of the policy as it is rendered, 0: none."""

    field: str
    message: str
    code: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """One of matchExpressions. operator: In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """As Kubernetes has it: what is not there is in no set, so NotIn holds."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case _:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its conditions hold; none: everything is chosen."""

    conditions: tuple[Condition, ...] = ()

    def chooses(self, labels: Mapping[str, str]) -> bool:
        return all(condition.holds(labels) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom a policy is for. selector None: pods that name it. namespaces None: of any."""

    key: Key
    priority: int = 0
    selector: Selector | None = None
    namespaces: Selector | None = None

    def means(self, pod: Seen, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """namespaces: the labels of each that is known; what is not known is chosen by no namespaceSelector."""
        if not self.key.cluster and self.key.namespace != pod.pod.namespace:
            return False
        if self.namespaces is not None:
            labels = namespaces.get(pod.pod.namespace)
            if labels is None or not self.namespaces.chooses(labels):
                return False
        if self.selector is None:
            return pod.names is not None and self.key.name in pod.names
        return self.selector.chooses(pod.labels)

    @property
    def order(self) -> tuple[bool, int, str]:
        return not self.key.cluster, -self.priority, self.key.name


def chosen(pod: Seen, choices: Iterable[Choice], namespaces: Mapping[str, Mapping[str, str]]) -> list[Choice]:
    """In the order in which they compose."""
    return sorted((choice for choice in choices if choice.means(pod, namespaces)), key=lambda choice: choice.order)


def missing(pod: Seen, found: Iterable[Choice]) -> list[str]:
    """Names in its annotation that mean no policy for it: a pod that asks to be held by what is not there is not left alone."""
    there = {choice.key.name for choice in found}
    return [name for name in pod.names or () if name not in there]


def choice(key: Key, spec: Json) -> tuple[Choice, list[Fault]]:
    """What the spec says of whom it is for; whatever is wrong is a fault, and chooses nobody."""
    faults: list[Fault] = []
    selector = _selector(spec["selector"], "spec.selector", faults) if "selector" in spec else None
    namespaces = None
    if "namespaceSelector" in spec:
        if not key.cluster:
            faults.append(Fault("spec.namespaceSelector", "a policy of a namespace is for that one", "unknown_key"))
        namespaces = _selector(spec["namespaceSelector"], "spec.namespaceSelector", faults)
    priority = spec.get("priority", 0)
    if type(priority) is not int or priority not in _PRIORITY:
        faults.append(Fault("spec.priority", "a priority is a number from -1000 to 1000", "bad_number"))
        priority = 0
    return Choice(key, priority, selector, namespaces), faults


def _selector(value: Any, field: str, faults: list[Fault]) -> Selector:
    before = len(faults)
    conditions: list[Condition] = []
    if not isinstance(value, dict):
        faults.append(Fault(field, "a selector is a mapping", "wrong_type"))
        value = {}
    for name in value.keys() - {"matchLabels", "matchExpressions"}:
        faults.append(Fault(f"{field}.{name}", f"a selector has no key `{name}`; accepted: matchLabels, matchExpressions", "unknown_key"))
    labels = value.get("matchLabels", {})
    if not isinstance(labels, dict):
        faults.append(Fault(f"{field}.matchLabels", "labels are a mapping of texts", "wrong_type"))
        labels = {}
    for name, text in labels.items():
        if _labelled(name, text):
            conditions.append(Condition(name, "In", frozenset({text})))
        else:
            faults.append(Fault(f"{field}.matchLabels.{name}", "no label can be called so, or have that value", "wrong_type"))
    entries = value.get("matchExpressions", [])
    if not isinstance(entries, list):
        faults.append(Fault(f"{field}.matchExpressions", "expressions are a list", "wrong_type"))
        entries = []
    for position, entry in enumerate(entries):
        found = _condition(entry)
        if isinstance(found, str):
            faults.append(Fault(f"{field}.matchExpressions[{position}]", found, "wrong_type"))
        else:
            conditions.append(found)
    return Selector(tuple(conditions)) if len(faults) == before else NOBODY


NOBODY = Selector((Condition("", "In"),))


def _condition(entry: Any) -> Condition | str:
    """Or what is wrong with it."""
    if not isinstance(entry, dict) or entry.keys() - {"key", "operator", "values"}:
        return "an expression has `key`, `operator` and, for In and NotIn, `values`"
    key, operator, values = entry.get("key"), entry.get("operator"), entry.get("values", [])
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        return "its `key` is the name of a label"
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        return "its `operator` is In, NotIn, Exists or DoesNotExist"
    if not isinstance(values, list) or not all(_labelled(key, each) for each in values):
        return "its `values` are a list of values that a label can have"
    if bool(values) != (operator in ("In", "NotIn")):
        return "In and NotIn have `values`, Exists and DoesNotExist have none"
    return Condition(key, str(operator), frozenset(values))


def _labelled(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, str) and bool(_NAME.fullmatch(name)) and bool(_VALUE.fullmatch(value))


def by_uid(seen: Sequence[Seen]) -> dict[str, Seen]:
    """Each by the uid that its cgroup has. Anybody who may make a pod may write that it mirrors another: what carries a uid of its own
    counts more, and of two mirrors the older one.
    """
    found: dict[str, Seen] = {}
    for each in sorted(sorted(seen, key=lambda pod: (pod.created, pod.uid), reverse=True), key=lambda pod: not pod.mirror):
        found[each.pod.uid] = each
    return found
