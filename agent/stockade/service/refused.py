"""From what the kernel refused by itself to the one record of it: the calls of one exec with one error on one path in one turn, counted.

Which of Landlock, a mount's flags and a file's mode refused is not known: the error is all that there is. What the machine's audit says of
it, where that is on, has records of its own (landlocked.py). Pure, as attempts.py is.
"""

from __future__ import annotations

import os
from pathlib import Path

from stockade.kernel.refusals import EXECS, FILES, Refusal, error_name
from stockade.service.governed import Governed
from stockade.types import Action, Binary, Effect, Level, Outcome, Reason, Record


def record_of(refusal: Refusal, governed: Governed) -> Record:
    """Refused in every mode: nothing that observing could lift was asked."""
    path = os.fsdecode(refusal.path)
    detail: dict[str, str | int | list[str]] = {"call": refusal.call, "errno": error_name(refusal.error), "times": refusal.times}
    if path:
        detail["path"] = path
    caller: Binary | None = governed.binary(refusal.identity, refusal.exec_id) if refusal.exec_id else None
    ancestry = governed.ancestry(refusal.exec_id)
    binary, exec_id = caller, refusal.exec_id or None
    if refusal.call in EXECS:
        action, level, reason = Action.EXEC, Level.EXEC, Reason.EXEC_REFUSED
        if path:  # what was to run, as in every record of an exec; who wanted it is the first of its ancestors
            binary, exec_id = Binary(Path(path).name or path, frozenset(), path), None
            ancestry = (caller.script or caller.path, *ancestry) if caller is not None else ancestry
    elif refusal.call in FILES:
        action, level, reason = Action.FILE, Level.STATIC, Reason.FILE_REFUSED
    else:
        action, level, reason = Action.SYSCALL, Level.STATIC, Reason.SYSCALL_REFUSED
    return Record(
        action,
        Outcome.DENY,
        Effect.REFUSE,
        level,
        reason,
        binary=binary,
        exec_id=exec_id,
        pid=refusal.pid,
        ancestry=ancestry,
        generation=refusal.generation,
        detail=detail,
    )
