"""The trail: where every decision is written, before it takes effect.

Owns PATH (the chained lines), PATH.head (the pinned end), PATH.journal (requests under way), PATH.key and PATH.pub, the order of writes
between them, and what a restart makes of what a dead agent left. Refuses to continue a trail that is damaged, to share it with a second
agent, and to say "written" of a line that is not in the file.

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
from typing import TextIO

from stockade.audit.chain import GENESIS, BrokenLine, Head, follow, seal, unseal
from stockade.audit.file import AuditError, LineFile, sync_directory
from stockade.audit.human import human_line
from stockade.audit.journal import Journal
from stockade.audit.keys import Signer
from stockade.audit.record import Json, canonical, describe, describe_detail, describe_http, timestamp
from stockade.types import Action, Effect, Http, Level, Outcome, Reason, Record, Sandbox, StockadeError

log = logging.getLogger(__name__)

CHECKPOINT_RECORDS = 1000
CHECKPOINT_SECONDS = 10.0
AGENT = Sandbox(id="", name="stockade", policy="", generation=0)  # whose records about the trail itself are

_PIN_WIDTH = 64 + 18 + 20  # a hash, the JSON around it, a seq


class Trail:
    """One audit file, open for writing. Thread-safe; `subscribers` get each record's JSON after it is written and must be quick."""

    def __init__(self, file: LineFile, pin: LineFile, journal: Journal, signer: Signer, head: Head, human: TextIO | None) -> None:
        self.subscribers: list[Callable[[Json], None]] = []
        self._file, self._pin, self._journal, self._signer, self._human = file, pin, journal, signer, human
        self._head = head
        self._began = ""  # of the newest journalled request; no two are alike
        self._unsigned = 0  # records since the last checkpoint
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._closed = False
        self._clock = threading.Thread(target=self._keep_signing, name="audit-checkpoint", daemon=True)

    @classmethod
    def open(cls, path: Path, *, key: Path | None = None, human: TextIO | None = None) -> Trail:
        """Create path, or continue it. Turns what a dead agent left into records. Raises StockadeError.

        key: the private key, made when absent (default PATH.key). human: where human lines go.
        """
        with contextlib.ExitStack() as opened:
            file = LineFile.open(path, lock=True)
            opened.callback(file.close)
            end = _End.of(file)
            pin = LineFile.open(beside(path, "head"))
            opened.callback(pin.close)
            journal = Journal.open(beside(path, "journal"))
            opened.callback(journal.close)
            trail = cls(file, pin, journal, Signer.at(key or beside(path, "key"), beside(path, "pub")), end.head, human)
            file.truncate(file.size - end.torn)
            trail._recover(end, read_pin(pin.read(pin.size, 0)))
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
        """Write one record and return it as it is written: the line is in the file. Raises AuditError when it is not; the caller denies."""
        fields = describe(sandbox, record)
        with self._lock:
            self._write(fields)
        self._tell(fields)
        return fields

    def begin(self, sandbox: Sandbox, record: Record) -> int:
        """Write an allowed request ahead, before it leaves; returns the token for finish(). Raises AuditError; the caller denies."""
        fields = describe(sandbox, record)
        with self._lock:
            self._began = fields["detail"]["began"] = _after(self._began)
            return self._journal.begin(fields)

    def finish(
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
    ) -> int:
        """The one record of a begun request, with what became of it; returns its seq. What is None stays as begun; detail is added.

        Raises AuditError with the token still open, and ValueError for a token that is not.
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
            seq = self._write(fields)
            self._journal.strike(token)
        self._tell(fields)
        return seq

    def checkpoint(self) -> None:
        """Sign the head and put all before it on the disk. Does nothing when nothing is new. Raises AuditError."""
        with self._lock:
            if not self._unsigned or self._closed:
                return
            what = {"seq": self._head.seq, "hash": self._head.hash, "time": timestamp(), "key": self._signer.name}
            line, digest = seal({"checkpoint": what, "signature": self._signer.sign(canonical(what))}, self._head.hash)
            self._file.append(line)
            self._head, self._unsigned = Head(self._head.seq, digest), 0
            self._pin_head()
        self._file.sync()  # outside the lock: a slow disk holds up no decision

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
            for file in (self._journal, self._pin, self._file):
                file.close()

    def _write(self, fields: Json) -> int:
        """Seal and write fields, under the lock. Adds seq, time, prev and hash to them."""
        if self._closed:
            raise AuditError("the audit trail is closed")
        seq = self._head.seq + 1
        fields["seq"], fields["time"] = seq, timestamp()
        line, digest = seal(fields, self._head.hash)
        self._file.append(line)
        fields["hash"] = digest
        self._head = Head(seq, digest)
        self._pin_head()
        self._unsigned += 1
        if self._unsigned == CHECKPOINT_RECORDS:
            self._due.set()
        return seq

    def _pin_head(self) -> None:
        """Constant width, in place: costs a microsecond and no space, so it is right after every record, not only at checkpoints."""
        line = f'{{"hash":"{self._head.hash}","seq":{self._head.seq}}}'.ljust(_PIN_WIDTH) + "\n"
        if self._pin.size:
            self._pin.patch(0, line.encode("ascii"))
        else:
            self._pin.append(line.encode("ascii"))

    def _recover(self, end: _End, pinned: Head) -> None:
        """Record what a dead agent could not: a torn line, lines that the pin has and the file has not, requests under way."""
        lost = max(0, pinned.seq - end.head.seq)
        replaced = pinned.seq == end.head.seq and pinned.hash not in end.hashes
        if end.torn or lost or replaced:
            detail: dict[str, str | int | list[str]] = {"torn_bytes": end.torn, "lost_records": lost, "end_replaced": int(replaced)}
            self.append(AGENT, Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, Reason.EVENTS_LOST, detail=detail))
        # The agent may have died after the record and before the strike: then the record is there, and a second would be one too many.
        for token in self._journal.tokens():
            if self._journal.fields(token)["detail"]["began"] == end.began:
                self._journal.strike(token)
            else:
                self.finish(token, reason=Reason.INTERRUPTED)
        self._pin_head()  # from here on it exists, so writing it needs no space
        self._unsigned += end.unsigned

    def _tell(self, record: Json) -> None:
        """Everyone who listens. The record is written: nothing that fails here may undo that."""
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
            self._due.wait(CHECKPOINT_SECONDS)
            self._due.clear()
            try:
                self.checkpoint()
            except AuditError as error:
                # Not fatal by itself: the records are in the file. A disk that is full refuses the next record too, and a disk that
                # failed to sync has closed the file to writing.
                log.error("audit checkpoint failed: %s", error)
                time.sleep(0.1)


def beside(path: Path, what: str) -> Path:
    """PATH.head, PATH.journal, PATH.key, PATH.pub."""
    return path.with_name(f"{path.name}.{what}")


def read_pin(data: bytes) -> Head:
    """The head in a PATH.head. A file that is empty or torn pins nothing."""
    try:
        value = json.loads(data)
        return Head(int(value["seq"]), str(value["hash"]))
    except (ValueError, KeyError, TypeError):
        return Head()


@dataclass(frozen=True, slots=True)
class _End:
    """What the file ends in. hashes: those the pin may rightly hold. began: of the last record. torn: bytes of a line without its end."""

    head: Head
    hashes: frozenset[str]
    began: str | None
    unsigned: bool
    torn: int

    @classmethod
    def of(cls, file: LineFile) -> _End:
        """Raises StockadeError when the last whole lines are damaged."""
        lines, torn = file.tail(2)
        head, hashes, began, unsigned = Head(), {GENESIS}, None, False
        try:
            for line in map(unseal, lines):
                unsigned = "checkpoint" not in line
                if unsigned:
                    began = line["detail"].get("began")
                head = follow(head if unsigned else Head(int(line["checkpoint"]["seq"])), line)
                # Killed between a checkpoint and its pin, the pin still holds the record before it.
                hashes = {head.hash} if unsigned else {head.hash, str(line["prev"])}
        except (BrokenLine, KeyError, TypeError, ValueError, AttributeError) as error:
            raise StockadeError(
                f"{file.path} is damaged at its end: {error}",
                hint=f"stockade audit verify {file.path}; then move it away, a new trail is begun",
                code="audit_damaged",
            ) from error
        return cls(head, frozenset(hashes), began, unsigned, len(torn))


def _after(stamp: str) -> str:
    """Now, or a microsecond after stamp when the clock has not moved: journalled requests are told apart by it."""
    now = timestamp()
    if now > stamp:
        return now
    return timestamp(datetime.fromisoformat(stamp) + timedelta(microseconds=1))
