"""The trail: where every decision is written, before it takes effect.

Owns PATH and PATH.000001 … (the chained lines), PATH.head (the pinned end), PATH.journal (requests under way), PATH.key and PATH.pub, the
order of writes between them, and what a restart makes of what a dead agent left. Refuses to continue a trail that is damaged, to share it
with a second agent, and to say "written" of a line that is not in the file.

What is acknowledged survives kill -9; what a checkpoint covers survives the machine. Sandboxes never see these files.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO, TypedDict, Unpack

from stockade.audit.chain import Head, seal
from stockade.audit.end import End
from stockade.audit.file import AuditError, LineFile, sync_directory
from stockade.audit.human import human_line
from stockade.audit.journal import Journal
from stockade.audit.keys import Signer
from stockade.audit.pin import Pin, beside
from stockade.audit.record import Json, canonical, describe, describe_detail, describe_http, timestamp
from stockade.audit.rotate import end_of, surplus, turn
from stockade.settings.audit import Audit
from stockade.types import Action, Effect, Http, Level, Outcome, Reason, Record, Sandbox, StockadeError

log = logging.getLogger(__name__)

AGENT = Sandbox(id="", name="stockade", policy="", generation=0)  # whose records about the trail itself are
DEFAULT = Audit()

Detail = dict[str, str | int | list[str]]


class Became(TypedDict, total=False):
    """What became of a begun request: see `Trail.complete`."""

    http: Http | None
    outcome: Outcome | None
    effect: Effect | None
    level: Level | None
    reason: Reason | None
    enforced: bool | None
    detail: Mapping[str, str | int | list[str]] | None
    required: bool


@dataclass(slots=True)
class Counters:
    """Since the trail was opened. missed: records that could not be written, of which a later one gives the count."""

    records: int = 0
    checkpoints: int = 0
    rotations: int = 0
    missed: int = 0
    failures: int = 0  # of checkpoints, rotations and of the pin in the second place


class Trail:
    """One trail, open for writing. Thread-safe; `subscribers` get each record's JSON after it is written and must be quick."""

    def __init__(self, file: LineFile, pin: Pin, journal: Journal, signer: Signer, end: End, keeping: Audit, human: TextIO | None) -> None:
        self.subscribers: list[Callable[[Json], None]] = []
        self.counters = Counters()
        self._file, self._pin, self._journal, self._signer, self._human = file, pin, journal, signer, human
        self._keeping = keeping
        self._head = end.head
        self._born = _born(file)  # of the file's first record, for its age
        self._began = ""  # of the newest journalled request; no two are alike
        self._unsigned = 0  # records since the last checkpoint
        self._missed, self._missed_since, self._missed_why = 0, "", ""
        self._news: list[Json] = []  # written, and not told to anybody yet
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._closed = False
        self._clock = threading.Thread(target=self._keep_signing, name="audit-checkpoint", daemon=True)

    @classmethod
    def open(cls, path: Path, keeping: Audit = DEFAULT, *, human: TextIO | None = None) -> Trail:
        """Create path, or continue it. Turns what a dead agent left into records. Raises StockadeError.

        keeping: key, pin, rotation and checkpoints. human: where human lines go.
        """
        with contextlib.ExitStack() as opened:
            file = LineFile.open(path, lock=True)
            opened.callback(file.close)
            pin = Pin.open(path, keeping.pin)
            opened.callback(pin.close)
            end = End.of(file)
            journal = Journal.open(beside(path, "journal"))
            opened.callback(journal.close)
            signer = Signer.at(keeping.key or beside(path, "key"), beside(path, "pub"))
            trail = cls(file, pin, journal, signer, end, keeping, human)
            file.truncate(file.size - end.torn)
            trail._recover(end)
            sync_directory(path.parent)
            opened.pop_all()
        trail._clock.start()
        return trail

    @property
    def path(self) -> Path:
        return self._file.path

    def append(self, sandbox: Sandbox, record: Record) -> int:
        """As `enter`; returns the seq."""
        return int(self.enter(sandbox, record)["seq"])

    def enter(self, sandbox: Sandbox, record: Record) -> Json:
        """Write one record and return it as it is written: the line is in the file. Raises AuditError when it is not; the caller denies.

        What could not be written is counted, and the count is the first record when there is room again.
        """
        fields = describe(sandbox, record)
        with self._lock:
            try:
                self._write(fields)
            except AuditError as error:
                self._miss(error)
                raise
        self._tell()
        return fields

    def begin(self, sandbox: Sandbox, record: Record, *, required: bool = True) -> int:
        """Write an allowed request ahead, before it leaves; returns the token for finish(). Raises AuditError; the caller denies.

        required False: where it cannot be written, go on with what is in memory.
        """
        fields = describe(sandbox, record)
        with self._lock:
            self._began = fields["detail"]["began"] = _after(self._began)
            try:
                return self._journal.begin(fields)
            except AuditError:
                if required:
                    raise
                return self._journal.hold(fields)

    def finish(self, token: int, **became: Unpack[Became]) -> int:
        """As `complete`; returns the seq, 0 where it could not be written."""
        written = self.complete(token, **became)
        return 0 if written is None else int(written["seq"])

    def complete(
        self,
        token: int,
        *,
        http: Http | None = None,
        outcome: Outcome | None = None,
        effect: Effect | None = None,
        level: Level | None = None,
        reason: Reason | None = None,
        enforced: bool | None = None,
        detail: Mapping[str, str | int | list[str]] | None = None,
        required: bool = True,
    ) -> Json | None:
        """The one record of a begun request, with what became of it, as it is written. What is None stays as begun; detail is added.

        Raises AuditError with the token still open, and ValueError for a token that is not. required False: a record that cannot be written
        is counted instead, the token is no longer open, and None is returned.
        """
        changes = {"decision": outcome, "effect": effect, "level": level, "reason": reason}
        with self._lock:
            try:
                began = self._journal.fields(token)
            except KeyError:
                raise ValueError(f"no request {token} is under way") from None
            fields = began | {name: value.value for name, value in changes.items() if value is not None}
            if enforced is not None:
                fields["enforced"] = enforced
            if http is not None:
                fields["http"] = describe_http(http)
            if detail:
                fields["detail"] = began["detail"] | describe_detail(detail)
            written = True
            try:
                self._write(fields)
            except AuditError as error:
                if required:
                    raise
                self._miss(error)
                written = False
                with contextlib.suppress(AuditError):  # then it counts as interrupted, should this agent die before the disk is back
                    self._journal.strike(token)
            else:
                self._journal.strike(token)
        self._tell()
        return fields if written else None

    def recover(self) -> None:
        """Write down that nothing could be written, and how much was missed. Raises AuditError: nothing can be written yet."""
        with self._lock:
            self._own_up()
        self._tell()

    def checkpoint(self) -> None:
        """Sign the head and put all before it on the disk. Does nothing when nothing is new. Raises AuditError."""
        with self._lock:
            if not self._unsigned or self._closed:
                return
            self._sign()
            file, head, missed = self._file, self._head, self._missed
        file.sync()  # outside the lock: a slow disk holds up no decision
        self._pin.copy(head, missed)

    def rotate(self, *, now: bool = False) -> None:
        """Close the file and begin the next when it is large or old enough, or now. Raises AuditError, and the old file goes on."""
        rules = self._keeping.rotate
        with self._lock:
            old = rules.age is not None and self._born is not None and time.time() - self._born >= rules.age
            if self._closed or not self._file.size or not (now or old or self._file.size >= rules.size):
                return
            if self._unsigned:
                self._sign()
            done, self._file = self._file, turn(self._file)
            self._born = None
            head, missed = self._head, self._missed
        self.counters.rotations += 1
        try:
            done.sync()
        finally:
            done.close()
        sync_directory(self.path.parent)
        self._pin.copy(head, missed)
        self._remove(surplus(self.path, rules.keep))

    def take_key(self) -> None:
        """Go on with the key that somebody put in the place of the one in use, which vouches for it last. Raises StockadeError."""
        fresh = self._signer.exchanged()
        if fresh is None:
            return
        with self._lock:
            if self._closed:
                return
            self._write(_own(Reason.KEY_REPLACED, {"old": self._signer.name, "new": fresh.name}))
            self._sign()
            self._signer = fresh
        self._tell()

    def close(self) -> None:
        """Record what is still under way as interrupted, sign, and let go of the file. May be called twice. Raises AuditError."""
        if self._closed:
            return
        try:
            for token in self._journal.tokens():
                self.finish(token, reason=Reason.INTERRUPTED)
            self.checkpoint()
        finally:
            with self._lock:
                self._closed = True
                self._due.set()
            if self._clock.is_alive():
                self._clock.join()
            self._journal.close()
            self._pin.close()
            self._file.close()

    def _write(self, fields: Json) -> int:
        """Seal and write fields, under the lock. Adds seq, time, prev and hash to them."""
        if self._missed:
            self._own_up()
        return self._put(fields)

    def _put(self, fields: Json) -> int:
        if self._closed:
            raise AuditError("the audit trail is closed")
        seq = self._head.seq + 1
        fields["seq"], fields["time"] = seq, timestamp()
        line, digest = seal(fields, self._head.hash)
        before = self._file.append(line)
        fields["hash"] = digest
        self._head = Head(seq, digest)
        self._pin.set(self._head, self._missed)
        self._news.append(fields)
        self.counters.records += 1
        self._unsigned += 1
        if self._born is None:
            self._born = time.time()
        if self._unsigned == self._keeping.checkpoint.records or before < self._keeping.rotate.size <= self._file.size:
            self._due.set()
        return seq

    def _sign(self) -> None:
        what = {"seq": self._head.seq, "hash": self._head.hash, "time": timestamp(), "key": self._signer.name}
        line, digest = seal({"checkpoint": what, "signature": self._signer.sign(canonical(what))}, self._head.hash)
        self._file.append(line)
        self._head, self._unsigned = Head(self._head.seq, digest), 0
        self._pin.set(self._head, self._missed)
        self.counters.checkpoints += 1

    def _miss(self, error: AuditError) -> None:
        """A record that is nowhere. The pin keeps the count, should this agent die before it can be told."""
        if not self._missed:
            self._missed_since = timestamp()
        self._missed += 1
        self._missed_why = error.message
        self.counters.missed += 1
        self._pin.note(self._head, self._missed)

    def _own_up(self) -> None:
        """The record of how many are missing."""
        detail: Detail = {"missed": self._missed, "since": self._missed_since, "error": self._missed_why}
        self._put(_own(Reason.AUDIT_UNAVAILABLE, detail))
        self._missed, self._missed_since, self._missed_why = 0, "", ""
        self._pin.set(self._head, 0)

    def _recover(self, end: End) -> None:
        """Record what a dead agent could not: a torn line, lines that the pin has and the file has not, requests under way."""
        pinned, missed = self._pin.read()
        lost = max(0, pinned.seq - end.head.seq)
        replaced = pinned.seq == end.head.seq and pinned.hash not in end.hashes
        if end.torn or lost or replaced:
            self.append(AGENT, _about(Reason.EVENTS_LOST, {"torn_bytes": end.torn, "lost_records": lost, "end_replaced": int(replaced)}))
        if missed:
            self._missed, self._missed_why = missed, "the agent that could not write them died"
            self.recover()
        # The agent may have died after the record and before the strike: then the record is there, and a second would be one too many.
        for token in self._journal.tokens():
            if self._journal.fields(token)["detail"]["began"] == end.began:
                self._journal.strike(token)
            else:
                self.finish(token, reason=Reason.INTERRUPTED)
        self._pin.set(self._head, 0)  # from here on it exists, so writing it needs no space
        self._unsigned += end.unsigned

    def _remove(self, files: list[Path]) -> None:
        """Closed files that are not to be kept: a signed record says so before each goes, so what is left can still be verified."""
        for file in files:
            end = end_of(file)
            self.append(AGENT, _about(Reason.PARTS_REMOVED, {"file": file.name, "through_seq": end.seq, "through_hash": end.hash}))
            self.checkpoint()
            try:
                file.unlink()
            except OSError as error:
                raise AuditError(f"cannot remove {file}: {error.strerror}", error=error.errno) from error

    def _tell(self) -> None:
        """Everyone who listens. The records are written: nothing that fails here may undo that."""
        with self._lock:
            news, self._news = self._news, []
        for record in news:
            if self._human is not None:
                try:
                    self._human.write(human_line(record) + "\n")
                    self._human.flush()
                except (OSError, ValueError):  # the terminal is gone
                    self._human = None
            for subscriber in self.subscribers:
                try:
                    subscriber(record)
                except Exception:
                    log.exception("audit subscriber failed seq=%s", record["seq"])

    def _keep_signing(self) -> None:
        while not self._closed:
            self._due.wait(self._keeping.checkpoint.seconds)
            self._due.clear()
            for work in (self.take_key, self.checkpoint, self.rotate):
                try:
                    work()
                except StockadeError as error:
                    # Not fatal by itself: the records are in the file. A disk that is full refuses the next record too, and a disk that
                    # failed to sync has closed the file to writing.
                    self.counters.failures += 1
                    log.error("audit checkpoint failed: %s", error)
                    time.sleep(0.1)


def _about(reason: Reason, detail: Detail) -> Record:
    return Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, reason, detail=detail)


def _own(reason: Reason, detail: Detail) -> Json:
    """The fields of a record about the trail itself."""
    return describe(AGENT, _about(reason, detail))


def _born(file: LineFile) -> float | None:
    """When the first record of a file was written."""
    first = file.read(1 << 20, 0).split(b"\n", 1)[0]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        line = json.loads(first)
        return datetime.fromisoformat(line["time"] if "time" in line else line["checkpoint"]["time"]).timestamp()
    return None


def _after(stamp: str) -> str:
    """Now, or a microsecond after stamp when the clock has not moved: journalled requests are told apart by it."""
    now = timestamp()
    if now > stamp:
        return now
    return timestamp(datetime.fromisoformat(stamp) + timedelta(microseconds=1))
