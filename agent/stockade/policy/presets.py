"""Presets: the policies that ship with Stockade, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stockade import resources

DEFAULT: Path = resources.POLICIES / "openclaw-sandbox.yaml"

_PREFIX = "presets/"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Preset:
    """summary: the first line of the file, which is a comment."""

    name: str
    path: Path
    summary: str


def preset_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (resources.POLICIES / "presets").glob("*.yaml") if not path.stem.endswith("_test")))


def preset_path(name: str) -> Path | None:
    """The file of `pypi` or `presets/pypi`; None when no such preset ships."""
    stem = name.removeprefix(_PREFIX)
    if not _NAME.fullmatch(stem) or stem not in preset_names():
        return None
    return resources.POLICIES / "presets" / f"{stem}.yaml"


def presets() -> tuple[Preset, ...]:
    """Those that ship, each with the comment on the first line of its file."""
    found = []
    for name in preset_names():
        path = resources.POLICIES / "presets" / f"{name}.yaml"
        with path.open(encoding="utf-8") as file:
            found.append(Preset(name, path, file.readline().lstrip("# ").strip()))
    return tuple(found)
