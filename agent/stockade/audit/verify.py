"""The verifier: is this file what the agent wrote, all of it, in that order?

Owns the verdict and the name of the first bad line. Reads only; needs no private key, and runs on a copy of the file on another machine.
What it can know rests on what the verifier holds: see docs/audit-verify.md.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from pathlib import Path

from stockade.audit.chain import BrokenLine, Head, follow, unseal
from stockade.audit.keys import public_keys, signed
from stockade.audit.record import Json, canonical
from stockade.audit.trail import beside, read_pin
from stockade.types import StockadeError


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on one file.

    first_bad_line: 1-based; for a cut tail the line after the last. problem: what is wrong with it. unsigned: records after the last
    checkpoint, which the chain and the pinned head alone vouch for. pinned_key: False when no public key was there to compare with.
    """

    ok: bool
    records: int
    first_bad_line: int | None = None
    problem: str | None = None
    checkpoints: int = 0
    unsigned: int = 0
    pinned_key: bool = False


class _Bad(Exception):
    """What is wrong with the line being read."""


def verify(path: Path, public_key: Path | None = None, *, head: Path | None = None) -> Verification:
    """Check every line of a trail. Raises StockadeError when there is nothing to read.

    public_key: PEM, default PATH.pub where it exists. head: a PATH.head, or a copy of one kept elsewhere; default PATH.head.
    """
    keys_file = public_key or (beside(path, "pub") if beside(path, "pub").exists() else None)
    trusted = None if keys_file is None else public_keys(keys_file)
    pin = _pin(path, head)  # before the file: a live agent may add to it meanwhile, and the pin must not be ahead
    checker = _Checker(trusted, pin)
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):  # a live agent may be in the middle of it: one write may cross two pages
                    time.sleep(0.05)
                    line += file.readline()
                try:
                    checker.take(line)
                except _Bad as problem:
                    return checker.verdict(_diagnose(path, checker, line, str(problem)))
    except OSError as error:
        hint = "name the file that --audit names"
        raise StockadeError(f"cannot read {path}: {error.strerror}", hint=hint, code="audit_unreadable") from error
    if not checker.pin_seen:
        checker.line += 1
        return checker.verdict(f"cut tail: the file ends at record {checker.head.seq}, its pinned head is record {pin.seq}")
    return checker.verdict(None)


class _Checker:
    """Takes lines in order. `head` is the end of what was good, `line` the number of the line last taken."""

    def __init__(self, trusted: frozenset[str] | None, pin: Head) -> None:
        self.head, self.line = Head(), 0
        self.pin_seen = pin == Head()
        self._trusted, self._pin = trusted, pin
        self._checkpoints = self._unsigned = 0

    def take(self, raw: bytes) -> None:
        """Raises _Bad."""
        self.line += 1
        if not raw.endswith(b"\n"):
            raise _Bad("truncated: the line has no end")
        try:
            line = unseal(raw[:-1])
        except BrokenLine as error:
            raise _Bad(str(error)) from error
        if line["prev"] != self.head.hash:
            raise _Bad(f"does not follow line {self.line - 1}" if self.line > 1 else "the lines before it are missing")
        if "checkpoint" in line:
            self._checkpoint(line)
        elif line.get("seq") != self.head.seq + 1:
            raise _Bad(f"forged: it follows record {self.head.seq}, and calls itself {line.get('seq')!r}")
        else:
            self._unsigned += 1
        self.head = follow(self.head, line)
        self.pin_seen = self.pin_seen or self.head == self._pin

    def _checkpoint(self, line: Json) -> None:
        what = line["checkpoint"]
        if not isinstance(what, dict) or (what.get("seq"), what.get("hash")) != (self.head.seq, self.head.hash):
            raise _Bad("forged: the checkpoint is for another place in the chain")
        key = str(what.get("key"))
        if self._trusted is not None and not any(hmac.compare_digest(key, one) for one in self._trusted):
            raise _Bad(f"forged: the checkpoint is signed by a key that is not the trail's ({key[:16]}…)")
        try:
            message = canonical(what)
        except (ValueError, RecursionError):  # NaN, 1e999: Python reads what it does not write
            raise _Bad("forged: the checkpoint cannot have been signed") from None
        if not signed(key, str(line.get("signature")), message):
            raise _Bad("forged: the signature of the checkpoint does not match")
        self._checkpoints, self._unsigned = self._checkpoints + 1, 0

    def verdict(self, problem: str | None) -> Verification:
        bad = None if problem is None else self.line
        return Verification(
            problem is None, self.head.seq, bad, problem, self._checkpoints, self._unsigned, pinned_key=self._trusted is not None
        )


def _pin(path: Path, head: Path | None) -> Head:
    file = head or beside(path, "head")
    try:
        pin = read_pin(file.read_bytes())
    except FileNotFoundError:
        if head is None:
            return Head()
        raise StockadeError(f"cannot read {head}: no such file", hint="give a copy of PATH.head", code="audit_unreadable") from None
    except OSError as error:
        raise StockadeError(f"cannot read {file}: {error.strerror}", hint="run as the agent's user", code="audit_unreadable") from error
    if head is not None and pin == Head():
        raise StockadeError(f"{head} pins nothing", hint="give a copy of PATH.head", code="audit_unreadable")
    return pin


def _diagnose(path: Path, checker: _Checker, raw: bytes, problem: str) -> str:
    """Say what was done to a line that does not follow: one more pass, looking for where it, or the line due in its place, stands."""
    if not problem.startswith("does not follow"):
        return problem
    bad, due, own_place, twin = unseal(raw[:-1]), None, None, None
    with path.open("rb") as file:
        for number, other in enumerate(file, 1):
            if number == checker.line:
                continue
            if other == raw and number < checker.line:
                twin = number
            try:
                line = unseal(other.rstrip(b"\n"))
            except BrokenLine:
                continue
            if line["prev"] == checker.head.hash and number > checker.line:
                due = due or number
            if line["hash"] == bad["prev"]:
                own_place = number
    if twin is not None:
        return f"duplicated: it repeats line {twin}"
    if due is not None and own_place is not None:
        return f"reordered: it belongs after line {own_place}, and line {due} belongs here"
    if due is not None:
        return f"inserted: line {due} belongs here"
    if "checkpoint" not in bad and isinstance(bad.get("seq"), int) and bad["seq"] > checker.head.seq + 1:
        return f"dropped: records {checker.head.seq + 1} to {bad['seq'] - 1} are missing before it"
    return f"{problem}: a line between them was dropped, or one of the two was rewritten"
