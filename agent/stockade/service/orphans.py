"""Sandboxes whose agent died: which there are, what is left of those that ended, and how one is ended from outside.

A slot whose lock can be taken has no agent. When the init that was written down still lives, its sandbox waits to be adopted and is left
alone; everything else there is swept: pins, cgroups, what was written down.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from stockade.audit import Trail
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.service.state import Header
from stockade.settings import configured
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, StockadeError

log = logging.getLogger(__name__)

DIES = 5.0  # seconds in which what was killed has gone
BUSY = 0.5  # seconds for which somebody who only looks may hold a slot


@dataclass(frozen=True, slots=True)
class Orphan:
    """header None: what its agent wrote is not readable, as `problem` says. name: box-N then."""

    number: int
    name: str
    header: Header | None
    problem: str = ""


def orphans(settings: Settings, bpffs: Path) -> list[Orphan]:
    """Those that wait, by number. Sweeps the others on the way."""
    found = []
    for number in _numbers(settings):
        slot = Slot.seize(settings, bpffs, number)
        if slot is None:  # it has an agent
            continue
        try:
            if (orphan := _orphan(slot)) is not None:
                found.append(orphan)
            elif slot.left_behind:
                with contextlib.suppress(StockadeError):  # what does not die stays held: its pins with it
                    end(slot, "it ended while it had no agent")
        finally:
            slot.let_go()
    return found


def _orphan(slot: Slot) -> Orphan | None:
    """What lives in a slot that nobody holds. Nobody wrote down its init, or that one has ended: nothing lives there that should."""
    try:
        header = slot.state.header()
    except StockadeError as error:
        return Orphan(slot.number, f"box-{slot.number}", None, error.message) if slot.sandbox.populated() else None
    if header is None or not header.lives:
        return None
    return Orphan(slot.number, header.sandbox.name, header)


def seized(settings: Settings, bpffs: Path, name: str) -> Slot:
    """The slot of one that waits, held. Raises StockadeError when there is none of that name."""
    until = time.monotonic() + BUSY
    while True:
        waiting = orphans(settings, bpffs)
        for orphan in waiting:
            if orphan.name == name and (slot := Slot.seize(settings, bpffs, orphan.number)) is not None:
                return slot
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    known = ", ".join(orphan.name for orphan in waiting) or "none"
    raise StockadeError(f"no sandbox called {name} waits for an agent", hint=f"waiting: {known}; stockade sandbox ls", code="no_orphan")


def end(slot: Slot, why: str) -> None:
    """Kill what lives in a slot that is held, record that, and sweep. Raises StockadeError when something does not die."""
    until = time.monotonic() + DIES
    while slot.sandbox.populated():
        slot.sandbox.kill()
        if time.monotonic() > until:
            raise StockadeError(f"{slot.sandbox.path} still has processes", hint="look at its cgroup.procs", code="not_killed")
        time.sleep(0.01)
    try:
        if (header := slot.state.header()) is not None:
            _record(header, why)
    except StockadeError as error:  # it is dead, and that is what was wanted
        log.error("the end of what was in slot %d is on no record: %s", slot.number, error)
    slot.sweep()


def _record(header: Header, why: str) -> None:
    detail: dict[str, str | int | list[str]] = {"why": why}
    with contextlib.closing(Trail.open(header.audit, configured(header.settings).audit)) as trail:
        trail.append(header.sandbox, Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, Reason.STOPPED, detail=detail))


def _numbers(settings: Settings) -> list[int]:
    """Of slots that somebody has, or did not let go of."""
    try:
        return sorted(int(path.name) for path in (settings.run / "slots").iterdir() if path.name.isdecimal())
    except FileNotFoundError:
        return []
