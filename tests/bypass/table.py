"""The table of attacks: every item of the checklist, what the attack is, what holds it, and the tests that show it.

Read from attacks/*.yaml, and from tests/golden/vectors for what the pure functions decide. A row says

    id, item      its name, and the words of the checklist that it stands for; several rows may share them
    attack, held  one line each, for docs/threats.md
    battery       it is performed by tests/bypass/inside: outside the sandbox, where it must get out, and inside, where it must not
      control     why it does not get out even there; without it, it must
      lacking     the errors that say that this kernel has no such thing: only with one of them may the control not get out
      proof       `call`: the attack carries no data, what counts is whether the call succeeds
      record      what some record must say of it, or several (phase: in a run with exec.writable, or in the others; call: the system call
                  that the kernel refused by itself), or in words why none does
    shown_by      tests elsewhere that try it
    limit         the sentence of SECURITY.md that says it is not held
    without       findings of `stockade doctor` that it takes, each with the sentence of SECURITY.md that says what is not held without it
    pending       what has to be built before it can be tried
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
VECTORS = REPOSITORY / "tests/golden/vectors"
VECTOR_TEST = "tests/unit/policy/test_threat_vectors.py"
_KEYS = {"id", "item", "attack", "held", "battery", "control", "lacking", "proof", "record", "shown_by", "limit", "without", "pending"}


@dataclass(frozen=True, slots=True)
class Row:
    """One attack. vectors: decided by VECTOR_TEST as well."""

    id: str
    bullet: str
    item: str
    attack: str
    held: str
    battery: str | None = None
    control: str | None = None
    lacking: tuple[str, ...] = ()
    proof: str = "data"
    record: dict[str, Any] | list[dict[str, Any]] | str | None = None
    shown_by: tuple[str, ...] = ()
    limit: str | None = None
    without: dict[str, str] = field(default_factory=dict)
    pending: str | None = None
    vectors: bool = False

    @property
    def records(self) -> list[dict[str, Any]]:
        """What the audit must hold."""
        return self.record if isinstance(self.record, list) else [self.record] if isinstance(self.record, dict) else []


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of the checklist. bullets: the checklist's own words, in its order."""

    title: str
    bullets: tuple[str, ...]
    rows: tuple[Row, ...]


def _row(bullet: str, given: dict[str, Any]) -> Row:
    if unknown := given.keys() - _KEYS:
        raise ValueError(f"{given.get('id')}: {', '.join(sorted(unknown))} is no field of a row")
    return Row(bullet=bullet, **given | {name: tuple(given.get(name, ())) for name in ("shown_by", "lacking")})


def _vector(bullet: str, given: dict[str, Any], written: dict[str, Any]) -> Row:
    """A row of the vector tables; what the section says of it as `held` and, when it is also performed, as `wire`."""
    held, wire = written["held"], written["wire"]
    performed = {"battery": "wire", "record": wire[given["id"]]} if given["id"] in wire else {}
    given = {key: given[key] for key in ("id", "item", "attack")} | {"shown_by": tuple(given.get("shown_by", ()))}
    return Row(bullet=bullet, held=held.get(given["id"]) or held[bullet.split(" ")[0]], vectors=True, **given, **performed)


def _section(path: Path) -> Section:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    bullets = written["bullets"]
    rows = [_row(bullet["bullet"], row) for bullet in bullets for row in bullet["rows"]]
    for name in written.get("vectors", ()):
        for table in yaml.safe_load((VECTORS / name).read_text(encoding="utf-8")):
            rows += [_vector(table["bullet"], row, written) for row in table["rows"]]
    return Section(written["section"], tuple(dict.fromkeys(row.bullet for row in rows)), tuple(rows))


@functools.cache
def sections() -> tuple[Section, ...]:
    return tuple(_section(path) for path in sorted((HERE / "attacks").glob("*.yaml")))


def rows() -> tuple[Row, ...]:
    return tuple(row for section in sections() for row in section.rows)


def battery(name: str) -> tuple[Row, ...]:
    """The rows that inside/NAME.py performs."""
    return tuple(row for row in rows() if row.battery == name)
