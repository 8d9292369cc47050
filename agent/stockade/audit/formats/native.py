"""Native JSON: the record itself, hash and all, so that what a sink received can be held against the trail."""

from __future__ import annotations

from stockade.audit.record import Json


def native(record: Json) -> Json:
    return record
