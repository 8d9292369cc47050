"""What every transport does: it sends a batch, whole and in order, or says why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from stockade.audit import formats
from stockade.audit.record import Json


class Item:
    """One record on its way: as it stands in the trail (raw, without its newline), parsed, and in the sink's format."""

    def __init__(self, raw: bytes, record: Json, form: str) -> None:
        self.raw, self.record, self._form = raw, record, form

    @cached_property
    def text(self) -> bytes:
        """One line without its end; ASCII. The trail's own line is the native form already."""
        return self.raw if self._form == "json" else formats.line(self._form, self.record)

    @property
    def is_json(self) -> bool:
        return self.text[:1] == b"{"

    @property
    def json(self) -> bytes:
        """As a JSON value: an object, or the text of a format that is none."""
        return self.text if self.is_json else json.dumps(self.text.decode("ascii")).encode("ascii")

    @property
    def time(self) -> str:
        return str(self.record["time"])


class Failed(Exception):
    """Nothing, or nobody knows how much, arrived: the same batch again, after a while. after: seconds that the receiver asked for."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Refused(Exception):
    """The receiver will never take this batch as it is: its halves may still pass."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch. refused: places of records that the receiver will never take; again: of those that are to be sent again."""

    refused: Sequence[int] = ()
    again: Sequence[int] = ()
    why: str = ""


ARRIVED = Outcome()


class Sink(Protocol):
    """Called from one thread. A sink opens what it needs when it needs it, and again after a failure."""

    def send(self, batch: Sequence[Item]) -> Outcome:
        """Returns when the receiver has it all. Raises Failed and Refused."""

    def close(self) -> None: ...


@runtime_checkable
class Doubtful(Sink, Protocol):
    """A sink whose receiver answers nothing: that a batch was sent does not mean that anybody read it."""

    @property
    def unsure(self) -> bool:
        """Whether anything was sent since `settle`."""

    def settle(self) -> None:
        """Returns when the receiver has read all that was sent. Raises Failed: what was sent since the last time is to be sent again."""
