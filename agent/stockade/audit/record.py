"""A record as it is written: the fields of one decision, and their one spelling.

Owns the shape of design section 5 and its canonical JSON: sorted keys, no spaces, ASCII. Every control character, quote, non-ASCII
character and stray byte of a path (a lone surrogate) is a \\u escape, so no host, path, argument or label can end a line or a string.
Credentials are masked here, before any sink. Knows nothing of files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from stockade.audit.mask import mask_path, mask_text
from stockade.types import UNKNOWN_BINARY, Binary, Destination, Http, Record, Sandbox

Json = dict[str, Any]

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def canonical(value: Json) -> bytes:
    """The one spelling of a value: what is hashed, signed and written."""
    return _encode(value).encode("ascii")


def timestamp(moment: datetime | None = None) -> str:
    """UTC with microseconds and Z, always 27 characters, so that text order is time order."""
    return (moment or datetime.now(UTC)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def record_id(record: Json) -> str:
    """The name of a sealed record, `41-9f3ac2d1e0b4`: where it stands, and the beginning of its hash, so that no other trail has it too."""
    return f"{record['seq']}-{record['hash'][:12]}"


def describe(sandbox: Sandbox, record: Record) -> Json:
    """The fields of a record that come from the decision: all but time, seq, prev and hash. Absent parts are null, never missing."""
    binary = record.binary or (UNKNOWN_BINARY if record.exec_id is not None else None)
    return {
        "sandbox": {
            "id": sandbox.id,
            "name": sandbox.name,
            "labels": sandbox.labels,
            "policy": sandbox.policy,
            "generation": sandbox.generation if record.generation is None else record.generation,
        },
        "action": record.action.value,
        "binary": None if binary is None else _binary(binary, record.exec_id),
        "pid": record.pid,
        "ancestry": list(record.ancestry),
        "destination": None if record.destination is None else _destination(record.destination),
        "http": None if record.http is None else describe_http(record.http),
        "decision": record.outcome.value,
        "effect": record.effect.value,
        "enforced": record.enforced,
        "level": record.level.value,
        "rule": record.rule,
        "reason": record.reason.value,
        "detail": describe_detail(record.detail),
    }


def describe_detail(detail: Mapping[str, str | int | list[str]]) -> Json:
    return {name: _detail(value) for name, value in detail.items()}


def describe_http(http: Http) -> Json:
    """As a record has it; sizes in bytes. What a path may carry is masked."""
    return {
        "method": http.method,
        "path": mask_path(http.path),
        "status": http.status,
        "request_bytes": http.request_bytes,
        "response_bytes": http.response_bytes,
    }


def _binary(binary: Binary, exec_id: int | None) -> Json:
    return {
        "name": binary.name,
        "path": binary.path,
        "script": binary.script,
        "sha256": binary.sha256,
        "exec_id": exec_id,
        "identity": binary.identity,
    }


def _destination(destination: Destination) -> Json:
    return {"host": destination.host, "port": destination.port, "address": destination.address}


def _detail(value: str | int | list[str]) -> str | int | list[str]:
    if isinstance(value, str):
        return mask_text(value)
    return value if isinstance(value, int) else [mask_text(item) for item in value]
