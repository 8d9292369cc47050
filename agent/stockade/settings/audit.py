"""What the section `audit` says: where trails are, when they are signed and rotated, and which sinks they have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stockade.policy.format.document import Findings
from stockade.settings.part import Part
from stockade.settings.rotate import Rotate, rotate
from stockade.settings.sinks import Sink, sink


@dataclass(frozen=True, slots=True)
class Checkpoint:
    records: int = 1000
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Audit:
    """directory None: the agent's own. key None: beside each trail. pin: the second directory for heads. drain: seconds."""

    directory: Path | None = None
    key: Path | None = None
    pin: Path | None = None
    rotate: Rotate = field(default_factory=Rotate)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    sinks: tuple[Sink, ...] = ()
    drain: float = 5.0


def audit(part: Part, findings: Findings) -> Audit:
    default, closing = Audit(), part.part("checkpoint")
    turning = rotate(part.part("rotate"), default.rotate)
    sinks: list[Sink] = []
    for one in part.parts("sinks"):
        found = sink(one, turning, findings)
        if found.name and any(found.name == other.name for other in sinks):
            findings.add(one.at("name"), "same_name", f"another sink is called `{found.name}`", accepted="a `name` for one of them")
        sinks.append(found)
    return Audit(
        directory=_path(part, "directory"),
        key=_path(part, "key"),
        pin=_path(part, "pin"),
        rotate=turning,
        checkpoint=Checkpoint(closing.whole("records", default.checkpoint.records), closing.number("seconds", default.checkpoint.seconds)),
        sinks=tuple(sinks),
        drain=part.seconds("drain", default.drain),
    )


def _path(part: Part, key: str) -> Path | None:
    text = part.text(key)
    return None if text is None else Path(text)
