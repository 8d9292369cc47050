"""What the nodes say of a policy, together: `status` of the resource. Pure; each node writes its entry and adds up what all have said.

No node leads. Whoever writes takes what stands there, puts its own entry in and writes it back for that version of the object alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockade import __version__
from stockade.kubernetes.resources import Json, Resource
from stockade.kubernetes.selecting import Fault

_COUNTS = ("allowed", "refused", "unenforced")
MOST = 50  # entries; in a larger cluster they are some of them, and the metrics have the sums
_SHOWN = 8  # names in a list of them
_LONGEST = 1000  # characters of a message


@dataclass(frozen=True, slots=True)
class Entry:
    """What one node says. observed: the generation that it has read last; generation: the one in force there, 0: none.

    pods: that it is for, there; governed: of those; observing: of those, where nothing is refused.
    allowed, refused, unenforced: since its agent runs.

    unheld: pods that could get something out. untrusting: those without their sandbox's trust store.
    unexpected: would-be refusals of the generation that is rolled out, each kind once.
    """

    name: str
    observed: int
    generation: int
    faults: tuple[Fault, ...] = ()
    pods: int = 0
    governed: int = 0
    refused: int = 0
    unenforced: int = 0
    allowed: int = 0
    unheld: tuple[str, ...] = ()
    untrusting: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    looking: int = 0
    observing: int = 0

    @property
    def worth(self) -> bool:
        """Whether it says more than that all is well and nobody is concerned."""
        return bool(self.pods or self.faults)

    def as_json(self, now: str) -> Json:
        """As the schema of the status has it. now: a time as Kubernetes has it. Lists are cut where the status would grow with the node."""
        found: Json = {
            "name": self.name,
            "loaded": not self.faults,
            "observedGeneration": self.observed,
            "generation": self.generation,
            "pods": self.pods,
            "sandboxes": self.governed,
            "allowed": self.allowed,
            "refused": self.refused,
            "unenforced": self.unenforced,
            "agent": __version__,
            "updated": now,
        }
        if self.faults:
            found["problems"] = [_problem(fault) for fault in self.faults]
        if self.unheld:
            found["unheld"] = list(self.unheld[:_SHOWN])
        if self.observing:
            found["observing"] = self.observing
        if self.untrusting:
            found["untrusting"] = list(self.untrusting[:_SHOWN])
        if self.looking or self.unexpected:
            found |= {"looking": self.looking, "unexpected": list(self.unexpected[:_SHOWN]), "unexpectedCount": len(self.unexpected)}
        return found


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be written, and whether it differs in more than in counts: that waits for less long."""

    status: Json
    urgent: bool = field(default=True)


def merged(resource: Resource, own: Entry, now: str, gone: Iterable[str] = ()) -> Said | None:
    """The status with this node's entry in it; None: it says so already. gone: nodes that are no more."""
    before = resource.status
    gone = set(gone)
    entries = [each for each in of_mappings(before, "nodes") if each.get("name") not in gone]
    mine = next((each for each in entries if each.get("name") == own.name), None)
    others = [each for each in entries if each.get("name") != own.name]
    said = own.as_json(now)
    if mine is not None and _timeless(mine) == _timeless(said):
        said = mine
    nodes = _with(others, said, known=mine is not None) if own.worth else others
    nodes.sort(key=lambda each: str(each.get("name")))
    verdicts = nodes if said in nodes else [*nodes, said]
    generation = resource.generation
    status: Json = {
        "observedGeneration": max(own.observed, _number(before.get("observedGeneration"))),
        "pods": sum(_number(each.get("pods")) for each in nodes),
        "sandboxes": sum(_number(each.get("sandboxes")) for each in nodes),
        "refused": sum(_number(each.get("refused")) for each in nodes),
        "conditions": conditions(before, [_loaded(verdicts, generation), _enforced(nodes, resource), _trusted(nodes)], generation, now),
        "nodes": nodes,
    }
    if "rollout" in before:  # rollout.py's
        status["rollout"] = before["rollout"]
    if status == before:
        return None
    return Said(status, _weighty(status) != _weighty(before))


def _with(others: list[Json], own: Json, *, known: bool) -> list[Json]:
    """Every node is told of every write, so an object has room for some of many: for those where something is wrong before others."""
    if known or len(others) < MOST:
        return [*others, own]
    well = [each for each in others if not _wrong(each)]
    if not _wrong(own) or not well:
        return others
    return [each for each in others if each is not well[-1]] + [own]


def _wrong(entry: Json) -> bool:
    return any(entry.get(name) for name in ("problems", "unheld", "unexpected"))


def _loaded(nodes: Sequence[Json], generation: int) -> tuple[str, str, str, str]:
    bad = [each for each in nodes if each.get("problems")]
    if bad:
        first = bad[0]["problems"][0]
        place = f"{first.get('field', 'spec')}" + (f", line {first['line']}" if first.get("line") else "")
        code = f" [{first['code']}]" if first.get("code") else ""
        kept = _number(bad[0].get("generation"))
        stays = f"; generation {kept} stays in force" if kept else "; nothing of it was in force before"
        return "Loaded", "False", "BadPolicy", f"{place}: {first.get('message', '')}{code}{stays} ({_named(bad)})"
    behind = [each for each in nodes if _number(each.get("observedGeneration")) < generation]
    if behind:
        return "Loaded", "Unknown", "Pending", f"generation {generation} is not read yet ({_named(behind)})"
    pods = sum(_number(each.get("pods")) for each in nodes)
    return "Loaded", "True", "Loaded", f"{_count(pods, 'pod')} on {_count(len(nodes), 'node')}" if pods else "it means no pod"


def _enforced(nodes: Sequence[Json], resource: Resource) -> tuple[str, str, str, str]:
    loose = [f"{each.get('name')}: {text}" for each in nodes for text in _of_texts(each, "unheld")]
    if loose:
        return "Enforced", "False", "NotHeld", _listed(loose)
    waiting = sum(_number(each.get("pods")) - _number(each.get("sandboxes")) for each in nodes)
    if waiting > 0:
        return "Enforced", "Unknown", "Waiting", f"{_count(waiting, 'pod')} not governed yet"
    if looked := [each for each in nodes if _number(each.get("observing"))]:
        pods = _count(sum(_number(each.get("observing")) for each in looked), "pod")
        return "Enforced", "False", "Observing", f"of {pods} what would be refused is recorded, and goes through ({_named(looked)})"
    if resource.spec.get("mode") == "observe":
        return "Enforced", "False", "Observing", "it observes: what it would refuse is recorded, and goes through"
    return "Enforced", "True", "Held", "every pod that it means is held"


def _trusted(nodes: Sequence[Json]) -> tuple[str, str, str, str]:
    without = [f"{each.get('name')}: {text}" for each in nodes for text in _of_texts(each, "untrusting")]
    if without:
        return "Trusted", "False", "NoTrustStore", f"rules with a method and a path refuse in {_listed(without)}"
    return "Trusted", "True", "TrustStore", "every governed pod has its sandbox's trust store"


def conditions(before: Json, found: Sequence[tuple[str, str, str, str]], generation: int, now: str) -> list[Json]:
    """Those of a status with these in it: type, status, reason, message. Others stay as they are."""
    old = {each.get("type"): each for each in of_mappings(before, "conditions")}
    for kind, status, reason, message in found:
        since = old[kind].get("lastTransitionTime", now) if kind in old and old[kind].get("status") == status else now
        old[kind] = {
            "type": kind,
            "status": status,
            "observedGeneration": generation,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message[:_LONGEST],
        }
    return [old[kind] for kind in sorted(old, key=str)]


def _weighty(status: Json) -> Any:
    """What somebody may be waiting for: all but how often."""
    nodes = [{key: value for key, value in _timeless(each).items() if key not in _COUNTS} for each in of_mappings(status, "nodes")]
    verdicts = [each.get("status") for each in of_mappings(status, "conditions")]
    return nodes, verdicts, status.get("observedGeneration"), status.get("rollout")


def _timeless(entry: Json) -> Json:
    return {key: value for key, value in entry.items() if key != "updated"}


def of_mappings(status: Json, name: str) -> list[Json]:
    """A list of the status, as far as it is one of mappings: whoever may write the status may have."""
    found = status.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _of_texts(entry: Json, name: str) -> list[str]:
    found = entry.get(name)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _problem(fault: Fault) -> Json:
    return (
        {"field": fault.field, "message": fault.message}
        | ({"line": fault.line} if fault.line else {})
        | ({"code": fault.code} if fault.code else {})
    )


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _count(number: int, of: str) -> str:
    return f"{number} {of}" + ("" if number == 1 else "s")


def _named(nodes: Sequence[Json]) -> str:
    return _listed([str(each.get("name")) for each in nodes])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
