"""Absence: binaries that a policy names and this machine lacks. Asked for by `policy check` alone: a policy may be written for another one.

Looks as a sandbox would, in the directories of its PATH, and opens nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from stockade.policy.families import SEARCHED, Families, Family
from stockade.policy.format.document import Findings, Place
from stockade.policy.format.problems import Problem, meant
from stockade.policy.model import Policy


def absent(policy: Policy, file: str, families: Families) -> tuple[Problem, ...]:
    """A warning for each binary that a policy's own file allows, not one it extends, and of which no file can be executed here."""
    findings = Findings()
    for name, place in _named(policy):
        if place.path == file and not any(map(_executable, _spellings(families.expand(name)))):
            where = "it cannot be executed here" if name.startswith("/") else f"none is in {':'.join(SEARCHED)}"
            message = f"`{name}` is no program of this machine: {where}{meant(name, families.names())}"
            accepted = "a family, or the name or absolute path of a program"
            findings.add(place, "binary_not_found", message, accepted=accepted, severity="warning")
    return tuple(findings.problems)


def _named(policy: Policy) -> Iterator[tuple[str, Place]]:
    seen = set()
    for rule in policy.rules:
        for name, place in policy.origins.in_rule(rule.name, "binary.allow").items():
            if name not in seen:
                seen.add(name)
                yield name, place
    yield from ((name, policy.origins.entry("exec.allow", name)) for name in policy.exec.allow if name not in seen)


def _spellings(family: Family) -> Iterator[str]:
    for entry in (*family.executables, *family.scripts):
        yield from (entry,) if "/" in entry else (f"{directory}/{entry}" for directory in SEARCHED)


def _executable(pattern: str) -> bool:
    found = Path("/").glob(pattern.lstrip("/")) if any(sign in pattern for sign in "*?[") else (Path(pattern),)
    return any(path.is_file() and os.access(path, os.X_OK) for path in found)
