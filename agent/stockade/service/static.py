"""What a running sandbox cannot change: it was given to the kernel, and to the sandbox, at start.

Compares the policy that was started with one that would replace it, and says of each difference what it is and where it stands. Binaries
are part of it: they were found, hashed and enrolled at start, so a rule cannot bring in another one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from stockade.policy import Policy, PolicyError, Rule
from stockade.policy.format.document import Findings, Mapping, Place, compose

SECTIONS = ("exec", "filesystem", "process", "best_effort")


def demand_same(started: Policy, new: Policy, enrolled: Collection[str]) -> None:
    """Raises PolicyError with every difference. enrolled: the names by which the sandbox's binaries are known."""
    findings = Findings()
    gained = set(new.exec.allow) - set(started.exec.allow)
    differences = [
        (section, said, names)
        for section in SECTIONS
        for said, names in _differences(section, getattr(started, section), getattr(new, section))
    ]
    places = _places(new.sources, {section for section, _, _ in differences})
    nowhere = Place(str(new.sources[0]) if new.sources else new.name)
    for section, said, names in differences:
        brought = next((rule.place for rule in new.rules if not names.isdisjoint(rule.binary.allow)), None)
        place = places.get(section) or brought or nowhere
        findings.add(place, "static_changed", said, accepted="what the sandbox was started with; start it again to change it")
    for rule in new.rules:
        if foreign := sorted(_names(rule) - gained - set(enrolled)):
            said = f"rule `{rule.name}` names `{'`, `'.join(foreign)}`, which was in no rule and no exec list when the sandbox was started"
            accepted = "binaries that were named at start; start the sandbox again to enrol others"
            findings.add(rule.place, "static_changed", said, accepted=accepted)
    if findings.failed:
        raise PolicyError(list(dict.fromkeys(findings.problems)))


def _names(rule: Rule) -> set[str]:
    return {*rule.binary.allow, *rule.binary.deny}


def _differences(section: str, old: Any, new: Any) -> Iterator[tuple[str, frozenset[str]]]:
    """What differs, in words, with the names that were added. The order of a list means nothing here."""
    names = [field.name for field in dataclasses.fields(old)] if dataclasses.is_dataclass(old) else [""]
    for name in names:
        before, after = (getattr(old, name), getattr(new, name)) if name else (old, new)
        where = f"`{section}.{name}`" if name else f"`{section}`"
        if dataclasses.is_dataclass(before):
            yield from _differences(f"{section}.{name}", before, after)
        elif isinstance(before, tuple | frozenset):
            gained = frozenset(_name(entry) for entry in after if entry not in before)
            lost = frozenset(_name(entry) for entry in before if entry not in after) - gained
            words = [f"{what} `{'`, `'.join(sorted(those))}`" for what, those in (("would gain", gained), ("would lose", lost)) if those]
            if words:
                yield f"{where} cannot change while the sandbox runs: it {' and '.join(words)}", gained
        elif before != after:
            yield f"{where} cannot change while the sandbox runs: it was `{before}` and would be `{after}`", frozenset()


def _name(entry: Any) -> str:
    """An entry may be a pair of a variable and its value, which may be a secret: only the name is said."""
    return str(entry[0] if isinstance(entry, tuple) else entry)


def _places(sources: Iterable[Path], sections: Collection[str]) -> dict[str, Place]:
    """Where the first document that has a section has it."""
    places: dict[str, Place] = {}
    for source in sources:
        try:
            root = compose(source.read_bytes(), str(source), Findings())
        except OSError:  # it went away meanwhile
            continue
        if isinstance(root, Mapping):
            for key, _ in root:
                if key.text in sections:
                    places.setdefault(key.text, key.place)
    return places
