"""The verifier: are these files what the agent wrote, all of it, in that order?

Owns the verdict and the name of the first bad line. Reads only; needs no private key, and runs on a copy of the files on another machine.
What it can know rests on what the verifier holds: see docs/audit-verify.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stockade.audit.chain import GENESIS, BrokenLine, Head, follow, unseal
from stockade.audit.keys import public_keys, signed
from stockade.audit.parts import files, numbered, trail_of
from stockade.audit.pin import beside, read_pin
from stockade.audit.record import Json, canonical
from stockade.types import Reason, StockadeError

_SEGMENT = 50_000  # lines without a checkpoint after which they are looked at one by one


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on one trail.

    first_bad_line: 1-based, in `file`; for a cut tail the line after the last. problem: what is wrong with it. unsigned: records after the
    last checkpoint, which the chain and the pinned head alone vouch for. pinned_key: False when no public key was there to compare with.
    records: the seq of the last; removed: of the last that is no longer there because the settings said so, which is signed.
    """

    ok: bool
    records: int
    first_bad_line: int | None = None
    problem: str | None = None
    checkpoints: int = 0
    unsigned: int = 0
    pinned_key: bool = False
    file: str = ""
    files: int = 1
    removed: int = 0


class _Bad(Exception):
    """What is wrong with the line being read."""


def verify(path: Path, public_key: Path | None = None, *, head: Path | None = None) -> Verification:
    """Check every line of a trail, over all of its files; path: PATH, or one of them. Raises StockadeError when there is nothing to read.

    public_key: PEM, default PATH.pub where it exists. head: a PATH.head, or a copy of one kept elsewhere; default PATH.head.
    """
    path = trail_of(path)
    keys_file = public_key or (beside(path, "pub") if beside(path, "pub").exists() else None)
    trusted = None if keys_file is None else public_keys(keys_file)
    pin = _pin(path, head)  # before the files: a live agent may add to them meanwhile, and the pin must not be ahead
    checker = _Checker(trusted, pin)
    try:
        last = None
        for name, file in files(path):
            if file is last:  # it was rotated while it was read, and this is the rest of it
                checker.renamed(name)
            else:
                checker.begin(name)
            last = file
            for lines in _segments(file):
                if checker.vouched(lines):
                    continue
                for line in lines:
                    try:
                        checker.take(line)
                    except _Bad as problem:
                        return checker.verdict(_diagnose(path, checker, line, str(problem)))
    except OSError as error:
        hint = "name the file that --audit names"
        raise StockadeError(f"cannot read {path}: {error.strerror}", hint=hint, code="audit_unreadable") from error
    if checker.start != Head() and checker.start not in checker.removed:
        return checker.headless()
    if not checker.pin_seen:
        checker.line += 1
        return checker.verdict(f"cut tail: the file ends at record {checker.head.seq}, its pinned head is record {pin.seq}")
    return checker.verdict(None)


def _segments(file: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a file, up to and with each checkpoint."""
    lines: list[bytes] = []
    for line in file:
        if not line.endswith(b"\n"):  # a live agent may be in the middle of it: one write may cross two pages
            time.sleep(0.05)
            line += file.readline()
        lines.append(line)
        if line.startswith(b'{"checkpoint":') or len(lines) == _SEGMENT:
            yield lines
            lines = []
    yield lines


class _Checker:
    """Takes lines in order. `head` is the end of what was good, `line` the number of the line last taken, in `file`.

    start: what the first line follows. removed: ends of files that a signed record says were removed.
    """

    def __init__(self, trusted: tuple[str, ...] | None, pin: Head) -> None:
        self.head, self.line, self.file, self.files = Head(), 0, Path(), 0
        self.pin_seen = pin == Head()
        self.start = Head()
        self.removed: set[Head] = set()
        self._first: Path | None = None
        self._trusted, self._pin = trusted, pin
        self._key = 0  # of the newest checkpoint, among the trusted ones
        self._checkpoints = self._unsigned = 0
        self._removing: set[Head] = set()  # told by records that are not signed yet

    def begin(self, file: Path) -> None:
        self.file, self.line, self.files = file, 0, self.files + 1
        self._first = self._first or file

    def renamed(self, file: Path) -> None:
        self._first = file if self._first == self.file else self._first
        self.file = file

    def vouched(self, lines: list[bytes]) -> bool:
        """Records that a trusted signature covers whole: taken, when that is what they are. False: nothing is taken, look at each.

        The signed hash stands for every byte before it, so these lines are the agent's own and need not be parsed: it is enough that each
        has the hash of the one before it, and the next seq, at the places where the agent writes them. Five times as fast as take().
        """
        if self._trusted is None or self.head == Head() or len(lines) < 2 or not lines[-1].startswith(b'{"checkpoint":'):
            return False
        seq, digest, pin = self.head.seq, self.head.hash.encode("ascii"), self._pin
        before, sha256, search = self._state(), hashlib.sha256, _LINK.search
        pinned = False
        for line in lines[:-1]:
            link = search(line)
            seq += 1
            if (
                link is None
                or link[1] != digest
                or link[2] == _REMOVED
                or not line.startswith(b',"seq":%d,"time":"' % seq, _SEQ - len(str(seq)))
            ):
                return False
            digest = line[-67:-3]
            if sha256(line[:-76] + b"}").hexdigest().encode("ascii") != digest or line[-76:-67] != _HASH or line[-3:] != _END:
                return False
            if seq == pin.seq and digest == pin.hash.encode("ascii"):
                pinned = True
        self.head = Head(seq, digest.decode("ascii"))
        self.line += len(lines) - 1
        self._unsigned += len(lines) - 1
        try:
            self.take(lines[-1])
        except _Bad:
            self._restore(before)
            return False
        self.pin_seen = self.pin_seen or pinned
        return True

    def take(self, raw: bytes) -> None:
        """Raises _Bad."""
        self.line += 1
        if not raw.endswith(b"\n"):
            raise _Bad("truncated: the line has no end")
        try:
            line = unseal(raw[:-1])
        except BrokenLine as error:
            raise _Bad(str(error)) from error
        if self.file == self._first and self.line == 1 and line["prev"] != GENESIS:
            self._begin_at(line)
        if line["prev"] != self.head.hash:
            raise _Bad(f"does not follow line {self.line - 1}" if self.line > 1 else "does not follow the end of the file before it")
        if "checkpoint" in line:
            self._checkpoint(line)
        elif type(line.get("seq")) is not int or line["seq"] != self.head.seq + 1:
            raise _Bad(f"forged: it follows record {self.head.seq}, and calls itself {line.get('seq')!r}")
        else:
            self._unsigned += 1
            if line.get("reason") == Reason.PARTS_REMOVED:
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    self._removing.add(Head(int(line["detail"]["through_seq"]), str(line["detail"]["through_hash"])))
        self.head = follow(self.head, line)
        self.pin_seen = self.pin_seen or self.head == self._pin

    def _begin_at(self, line: Json) -> None:
        """The files before the first one are not there. Whether they were removed as the settings say is known at the end."""
        seq = line.get("seq")
        if "checkpoint" not in line and type(seq) is int and seq > 1:
            self.start = self.head = Head(seq - 1, line["prev"])
        else:
            raise _Bad("the lines before it are missing")

    def _checkpoint(self, line: Json) -> None:
        what = line["checkpoint"]
        if not isinstance(what, dict) or (what.get("seq"), what.get("hash")) != (self.head.seq, self.head.hash):
            raise _Bad("forged: the checkpoint is for another place in the chain")
        key = str(what.get("key"))
        if self._trusted is not None:
            place = next((number for number, one in enumerate(self._trusted) if hmac.compare_digest(key, one)), None)
            if place is None:
                raise _Bad(f"forged: the checkpoint is signed by a key that is not the trail's ({key[:16]}…)")
            if place < self._key:
                raise _Bad(f"forged: the checkpoint is signed by a key that had been replaced ({key[:16]}…)")
            self._key = place
        try:
            message = canonical(what)
        except (ValueError, RecursionError):  # NaN, 1e999: Python reads what it does not write
            raise _Bad("forged: the checkpoint cannot have been signed") from None
        if not signed(key, str(line.get("signature")), message):
            raise _Bad("forged: the signature of the checkpoint does not match")
        self._checkpoints, self._unsigned = self._checkpoints + 1, 0
        self.removed |= self._removing
        self._removing = set()

    def _state(self) -> tuple[Head, int, int, int, bool]:
        return self.head, self.line, self._unsigned, self._key, self.pin_seen

    def _restore(self, state: tuple[Head, int, int, int, bool]) -> None:
        self.head, self.line, self._unsigned, self._key, self.pin_seen = state

    def headless(self) -> Verification:
        self.file, self.line = self._first or self.file, 1
        return self.verdict(
            f"the lines before it are missing: records 1 to {self.start.seq}, and no signed record says that they were removed"
        )

    def verdict(self, problem: str | None) -> Verification:
        bad = None if problem is None else self.line
        return Verification(
            problem is None,
            self.head.seq,
            bad,
            problem,
            self._checkpoints,
            self._unsigned,
            pinned_key=self._trusted is not None,
            file=str(self.file),
            files=self.files,
            removed=self.start.seq,
        )


# Where the agent's lines have what the quick look needs. Keys are sorted: nothing that a sandbox chose can stand at these places, for `pid`
# is a number or null, `prev` follows it at the top alone, and `time`, of 27 characters, is the last key before the hash.
_LINK = re.compile(rb',"pid":(?:null|[0-9]+),"prev":"([0-9a-f]{64})","reason":"([a-z_]+)"')
_HASH, _END = b',"hash":"', b'"}\n'
_SEQ = -(76 + 28 + len(b',"seq":,"time":"'))  # where `,"seq":` would begin if the number had no digits
_REMOVED = Reason.PARTS_REMOVED.value.encode("ascii")


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
    bad, due, own_place, twin, past = unseal(raw[:-1]), None, None, None, False
    for name, file in files(path):
        for number, other in enumerate(file, 1):
            if name == checker.file and number == checker.line:
                past = True
                continue
            where = f"line {number}" if name == checker.file else f"{name.name}:{number}"
            if other == raw and not past:
                twin = where
            try:
                line = unseal(other.rstrip(b"\n"))
            except BrokenLine:
                continue
            if line["prev"] == checker.head.hash and past:
                due = due or where
            if line["hash"] == bad["prev"]:
                own_place = where
    if twin is not None:
        return f"duplicated: it repeats {twin}"
    if due is not None and own_place is not None:
        return f"reordered: it belongs after {own_place}, and {due} belongs here"
    if due is not None:
        return f"inserted: {due} belongs here"
    missing = _missing(path, checker.file) if checker.line == 1 else ""
    if "checkpoint" not in bad and isinstance(bad.get("seq"), int) and bad["seq"] > checker.head.seq + 1:
        return f"dropped: records {checker.head.seq + 1} to {bad['seq'] - 1} are missing before it{missing}"
    return f"{problem}: a line between them was dropped, or one of the two was rewritten{missing}"


def _missing(path: Path, file: Path) -> str:
    """The file before one, when it is not there."""
    number = file.name.removeprefix(f"{path.name}.")
    before = numbered(path, int(number) - 1) if number.isdigit() else None
    return f"; {before.name} is not there" if before is not None and int(number) > 1 and not before.exists() else ""
