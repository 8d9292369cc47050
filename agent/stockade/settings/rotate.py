"""What a key `rotate` says, of the trail and of a sink that writes files."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.settings.part import Part


@dataclass(frozen=True, slots=True)
class Rotate:
    """size: bytes; age: seconds, of the first record, None for any; keep: closed files, None for all."""

    size: int = 256 << 20
    age: float | None = None
    keep: int | None = None


def rotate(part: Part, default: Rotate) -> Rotate:
    age, keep = part.text("age"), part.text("keep")
    return Rotate(
        size=part.size("size", default.size),
        age=default.age if age is None else part.seconds("age", 0),
        keep=default.keep if keep is None else int(keep),
    )
