"""A module of attacks, performed once outside the sandbox and once in it, and what must be true of each."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bypass.table import HERE, Row
from framework.machine import Machine, Record, Result, select
from framework.outside import Outside
from framework.patience import PATIENCE
from stockade.kernel.probe import Answer, senders
from vm.results import GOT_OUT

MARK, FIRST_PORT = "192.0.2.1", 20000  # as inside/driver.py has them
INSIDE = HERE / "inside"
FILES = {str(path.relative_to(INSIDE)): path.read_text(encoding="utf-8") for path in sorted(INSIDE.glob("**/*.py"))}
PYTHON = "/usr/bin/python3"
_SHORT = re.compile(r"SIG[A-Z]+|E[A-Z0-9]+\b|ended with \d+")
FOUND = {"senders named": senders}  # a row's `without`: what doctor says of it
LIMIT = "limit"
Note = Callable[[str, object], None]  # pytest's record_property


@dataclass(frozen=True, slots=True)
class Performed:
    """One run of a module. outcomes: what each attack said of itself. windows: the records that were written while it ran."""

    phase: str
    outcomes: dict[str, str]
    windows: dict[str, list[Record]] = field(default_factory=dict)
    result: Result | None = None


def outside_run(machine: Machine, module: str, facts: Mapping[str, Any], *, room: Path, pass_fds: Sequence[int] = ()) -> Performed:
    """As root, on the machine itself, with nothing in the way."""
    _write(room, facts, "control")
    done = subprocess.run(
        machine.wrap([PYTHON, "driver.py", module, "facts.json"]),
        cwd=room / "work",
        capture_output=True,
        text=True,
        timeout=300 * PATIENCE,
        pass_fds=pass_fds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Performed("control", {said["id"]: said["outcome"] for said in _lines(done.stdout)})


def inside_run(
    machine: Machine,
    module: str,
    facts: Mapping[str, Any],
    *,
    phase: str,
    policy: str,
    room: Path,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Performed:
    """In a sandbox under `policy`; its records are cut at the driver's marks."""
    _write(room, facts, phase)
    command = [PYTHON, "driver.py", module, "facts.json"]
    result = machine.run(command, policy=policy, room=room, env=env, pass_fds=pass_fds, timeout=300)
    assert result.status == 0, result
    said = _lines(result.stdout)
    marks = {
        record["destination"]["port"] - FIRST_PORT: position
        for position, record in enumerate(result.records)
        if record["action"] == "connect" and record["destination"]["address"] == MARK
    }
    assert len(marks) == len(said) + 1, f"{len(marks)} marks of {len(said)} attacks are on record: {result}"
    windows = {line["id"]: result.records[marks[line["number"]] + 1 : marks[line["number"] + 1]] for line in said}
    return Performed(phase, {line["id"]: line["outcome"] for line in said}, windows, result)


def _write(room: Path, facts: Mapping[str, Any], phase: str) -> None:
    for name, text in FILES.items():
        path = room / "work" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (room / "work/facts.json").write_text(json.dumps({"left_out": [], **facts, "phase": phase, "patience": PATIENCE}))


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"id"')]


def got_out(row: Row, performed: Performed, outside: Outside) -> bool:
    """Whether data arrived, or, for an attack that carries none, whether its call succeeded."""
    outcome = performed.outcomes[row.id]
    assert not outcome.startswith(("broken", "nothing said")), f"{row.id} in {performed.phase}: {outcome}"
    outside.settle()
    return outside.heard(performed.phase, row.id) or (row.proof == "call" and outcome.startswith("out"))


def verdict(outcome: str) -> str:
    """What an attack met, in a word: the signal that ended it, the error of its call, its exit."""
    short = _SHORT.match(outcome)
    return short[0] if short else "nothing arrived"


def check_control(row: Row, control: Performed, outside: Outside, note: Note) -> None:
    """With enforcement off it gets out, or the table says why not, or this kernel has no such thing: it says so itself."""
    out = got_out(row, control, outside)
    said = control.outcomes[row.id]
    if not out and said in row.lacking:
        note("lacking", said)
    elif row.control is None:
        assert out, f"{row.id} proves nothing: it does not get out with enforcement off either, it says {said!r}"
    else:
        assert not out, f"{row.id} gets out with enforcement off: the table says that it cannot ({row.control})"


def _later(held: Performed, window: list[Record]) -> list[Record]:
    """What the worker wrote of the same processes when their exchanges were over: perhaps only after the next attack had begun."""
    pids = {record["pid"] for record in window if record["action"] == "connect"}
    return [record for record in held.result.records if record["pid"] in pids] if held.result else []


def conceded(row: Row) -> str | None:
    """The sentence of SECURITY.md that says that this row is not held on this kernel, by what doctor finds on it."""
    return next((limit for need, limit in row.without.items() if FOUND[need]().answer is not Answer.AVAILABLE), None)


def check_conceded(row: Row, held: Performed, limit: str, outside: Outside, note: Note) -> None:
    """It gets out, as doctor, SECURITY.md and the run's first record say."""
    note("verdict", f"{held.phase}: {LIMIT}")
    note("conceded", limit)
    assert got_out(row, held, outside), f"{row.id} is held by now on this kernel: it says {held.outcomes[row.id]!r}"
    (started,) = held.result.select(action="lifecycle", reason="started") if held.result else []
    assert started["detail"]["senders"].startswith("unknown"), started


def check_held(row: Row, held: Performed, outside: Outside, note: Note) -> None:
    """Nothing arrived, and the record says why."""
    if limit := conceded(row):
        check_conceded(row, held, limit, outside, note)
        return
    note("verdict", f"{held.phase}: {verdict(held.outcomes[row.id])}")
    window = held.windows[row.id]
    said = held.outcomes[row.id]
    assert not got_out(row, held, outside), f"{row.id} {GOT_OUT} as {held.phase}: it says {said!r}\n{window}"
    for expected in row.records:
        assert _recorded(dict(expected), held, window), f"{row.id} says {said!r}, and no record has {expected}:\n" + "\n".join(
            json.dumps(record) for record in window
        )


def _recorded(expected: dict[str, Any], held: Performed, window: list[Record]) -> list[Record]:
    """The records that have the fields; those of `phase` alone, when there is one: elsewhere something else refuses it.

    call: what the kernel refused by itself is counted and written later, so that the whole run is looked through.
    """
    phase, call = expected.pop("phase", None), expected.pop("call", None)
    if phase is not None and (phase == "writable") is not (held.phase == "writable"):
        return window or [{}]
    if call is None:
        return select([*window, *_later(held, window)], **expected)
    everything = held.result.records if held.result else []
    return [record for record in select(everything, **expected) if record["detail"].get("call") == call]
