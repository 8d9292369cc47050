"""The forms that a record takes on its way out: BY_NAME is the one list, and a sink, `audit export` and the tests read it.

A format takes a record as it stands in the trail, and gives the object to be written as JSON, or the text of one line. It is pure: it reads
no file and no clock. What it gives is masked and can end no line, because the record was, and cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stockade.audit.formats.cef import cef
from stockade.audit.formats.ecs import ecs
from stockade.audit.formats.native import native
from stockade.audit.formats.ocsf import ocsf
from stockade.audit.record import Json, canonical

type Format = Callable[[Json], Json | str]

BY_NAME: Mapping[str, Format] = {
    "json": native,
    "ocsf": ocsf,
    "ecs": ecs,
    "cef": cef,
}


def line(name: str, record: Json) -> bytes:
    """The record in the named format, as one line without its end: ASCII, and no control character in it."""
    formed = BY_NAME[name](record)
    return formed.encode("ascii") if isinstance(formed, str) else canonical(formed)
