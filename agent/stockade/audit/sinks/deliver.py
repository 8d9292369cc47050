"""One sink's work: batches from the trail, sent until they arrive, in order; what is given up is counted.

Retries wait 0.5 s, then twice as long each time, up to a minute, each between half and one and a half times that: receivers that come back
are not run over by all at once. A batch that is refused is halved until the one record that the receiver will not take is found.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from pathlib import Path

from stockade.audit.file import AuditError
from stockade.audit.record import Json
from stockade.audit.sinks.cursor import Cursor, Position
from stockade.audit.sinks.follow import Follower
from stockade.audit.sinks.sink import Doubtful, Failed, Item, Refused, Sink
from stockade.settings.sinks import Sink as Rules
from stockade.types import Reason

log = logging.getLogger(__name__)

POLL = 0.1  # seconds between two looks at a trail that is not growing
_FIRST, _MOST = 0.5, 60.0
_SETTLE_SECONDS, _SETTLE_RECORDS = 30.0, 10_000  # how much is sent on before a receiver that answers nothing has to show that it reads


class Delivery:
    """Runs in a thread of its own. retried: attempts that failed; failing: why the last one did, empty when it did not."""

    def __init__(self, trail: Path, rules: Rules, sink: Sink, start: Position) -> None:
        """Raises AuditError: another process delivers for this sink and trail."""
        self.rules, self.retried, self.failing = rules, 0, ""
        self._cursor = Cursor.open(trail, rules.name, start)
        self._follower, self._sink = Follower(trail, self._cursor.position), sink
        self._doubtful = sink if isinstance(sink, Doubtful) else None
        self._reached = self._cursor.position  # what was sent, also where nobody knows yet whether it was read
        self._loose, self._loose_since = 0, 0.0  # records between the two, and when the first was sent
        self._doubts = 0  # times in a row that a receiver did not show it
        self._ends = float("inf")  # monotonic: when it gives up waiting
        self._stop = threading.Event()

    @property
    def sent(self) -> int:
        return self._cursor.sent + self._loose

    @property
    def lost(self) -> int:
        return self._cursor.lost

    def news(self) -> int:
        """How many were lost since this was last asked, for the record of it. The loss of such a record is no reason for another one."""
        lost = self._cursor.lost - self._cursor.told
        self._cursor.told += lost
        return lost

    @property
    def seq(self) -> int:
        return self._reached.seq

    def behind(self) -> int:
        return self._follower.behind(self._reached)

    def stop(self, drain: float) -> None:
        """End when everything is sent, or after so many seconds."""
        self._ends = time.monotonic() + drain
        self._stop.set()

    def abandon(self) -> None:
        """It never ran."""
        self._sink.close()
        self._cursor.close()

    def run(self) -> None:
        """Until it is stopped, and all is delivered or its time is over. An error of the trail or cursor ends it too, and is `failing`."""
        try:
            while not self._over():
                batch = self._batch()
                if batch:
                    self._deliver(batch)
                    if not self._over():
                        self._done()
                    continue
                last = self._stop.is_set()
                if self._follower.position != self._cursor.position and not self._done(last=last):  # a checkpoint, or what was lost
                    continue
                if last:
                    break
                self._stop.wait(POLL)
        except (OSError, AuditError) as error:  # of the trail or the cursor: nothing is lost, the next process goes on from there
            self.failing = str(error)
            log.error("sink %s: %s", self.rules.name, error)
        finally:
            self._sink.close()
            self._follower.close()
            self._cursor.close()

    def _over(self) -> bool:
        return time.monotonic() >= self._ends

    def _done(self, *, last: bool = False) -> bool:
        """Up to here everything was sent. False: it is to be sent again, from where it is known to have arrived."""
        self._reached = self._follower.position
        if self._doubtful is not None and self._doubtful.unsure:
            due = last or self._follower.lost or self._loose >= _SETTLE_RECORDS
            if not due and time.monotonic() < self._loose_since + _SETTLE_SECONDS:
                return True
            if not self._settled(self._doubtful):
                return False
        self._count_lost()
        self._cursor.position, self._cursor.sent, self._loose = self._reached, self.sent, 0
        self._cursor.save()
        return True

    def _settled(self, sink: Doubtful) -> bool:
        try:
            sink.settle()
        except Failed as error:
            self._again(error)
            return False
        self._doubts = 0
        self._well()
        return True

    def _again(self, error: Failed) -> None:
        """Back to where everything is known to have arrived, after a while."""
        self._fail(str(error))
        self._follower.rewind(self._cursor.position)
        self._follower.lost = 0  # found again on the way
        self._reached, self._loose = self._cursor.position, 0
        self._pause(error.after or min(_MOST, _FIRST * 2**self._doubts) * random.uniform(0.5, 1.5))
        self._doubts += 1

    def _count_lost(self) -> None:
        self._cursor.lost += self._follower.lost
        self._follower.lost = 0

    def _batch(self) -> list[Item]:
        """What is there, up to a batch; a part of one waits for more."""
        limits, size, until = self.rules.batch, 0, 0.0
        batch: list[Item] = []
        while len(batch) < limits.records and size < limits.size:
            found = self._follower.take()
            if found is not None:
                batch.append(Item(*found, self.rules.format))
                size += len(found[0])
                continue
            if not batch or self._stop.is_set():
                break
            until = until or time.monotonic() + limits.wait
            if time.monotonic() >= until:
                break
            self._stop.wait(min(POLL, limits.wait))
        return batch

    def _deliver(self, batch: list[Item]) -> None:
        """Until each has arrived or is given up. Gives the whole batch up when the sink has fallen too far behind meanwhile."""
        wait, left = _FIRST, batch
        while left:
            try:
                left = self._send(left)
            except Failed as error:
                if self._doubtful is not None and self._loose:  # sent before, on a connection that is no more
                    self._again(error)
                    return
                self._fail(str(error))
                if self._follower.behind() > self.rules.behind:
                    self._skip(left)
                    return
                delay = error.after or wait * random.uniform(0.5, 1.5)
                wait = min(_MOST, 2 * wait)
                self._pause(delay)
                if self._over():
                    return
            else:
                wait = _FIRST

    def _pause(self, delay: float) -> None:
        if not self._stop.wait(delay):
            return
        time.sleep(max(0.0, min(delay, self._ends - time.monotonic())))

    def _send(self, batch: list[Item]) -> list[Item]:
        """What is to be sent again. Raises Failed."""
        try:
            outcome = self._sink.send(batch)
        except Refused as error:
            if len(batch) == 1:
                self._give_up(batch, str(error))
                return []
            middle = len(batch) // 2
            return self._send(batch[:middle]) + self._send(batch[middle:])
        self._give_up([batch[place] for place in outcome.refused], outcome.why)
        self._loose_since = self._loose_since if self._loose else time.monotonic()
        self._loose += len(batch) - len(outcome.refused) - len(outcome.again)
        if outcome.again:
            self._fail(outcome.why)
        elif not self._doubts:
            self._well()
        return [batch[place] for place in outcome.again]

    def _well(self) -> None:
        if self.failing:
            log.warning("sink %s takes records again", self.rules.name)
            self.failing = ""

    def _fail(self, why: str) -> None:
        self.retried += 1
        if not self.failing:
            log.warning("sink %s: %s; records wait in the trail", self.rules.name, why)
        self.failing = why

    def _give_up(self, items: list[Item], why: str) -> None:
        for item in items:
            self._lose(item.record)
        if items:
            log.error("sink %s will not take record %s: %s", self.rules.name, items[0].record["seq"], why)

    def _lose(self, record: Json) -> None:
        self._cursor.lost += 1
        self._cursor.told += record.get("reason") == Reason.SINK_LOST

    def _skip(self, batch: list[Item]) -> None:
        """The oldest goes until the sink is half as far behind as it may be."""
        for item in batch:
            self._lose(item.record)
        while self._follower.behind() > self.rules.behind // 2:
            found = self._follower.take()
            if found is None:
                break
            self._lose(found[1])
        log.error("sink %s is too far behind: records up to %d are given up", self.rules.name, self._follower.position.seq)
