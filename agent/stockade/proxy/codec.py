"""JSON for what a worker says to the agent. The agent is root and the worker is not trusted: every field is checked, nothing is unpickled.

`decode_*` raise ValueError on anything that `encode_*` would not have written; sizes are bounded, so that a hostile worker can neither
crash the agent nor fill its memory with one message.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from stockade.kernel.abi import Address, Origin, Verdict
from stockade.proxy.spine import Passed
from stockade.types import Action, Binary, Destination, Effect, Http, Level, Outcome, Reason, Record

Json = dict[str, Any]

TEXT = 16 * 1024  # longest text in a message: twice the longest canonical path
ITEMS = 256


def text(message: Mapping[str, Any], key: str) -> str:
    """A bounded string. Raises ValueError."""
    value = message.get(key)
    if not isinstance(value, str) or len(value) > TEXT:
        raise ValueError(f"{key}: a text of at most {TEXT} characters is wanted")
    return value


def optional_text(message: Mapping[str, Any], key: str) -> str | None:
    return None if message.get(key) is None else text(message, key)


def number(message: Mapping[str, Any], key: str, *, maximum: int = 2**64 - 1) -> int:
    """A whole number from 0 to maximum. Raises ValueError."""
    value = message.get(key)
    if type(value) is not int or not 0 <= value <= maximum:
        raise ValueError(f"{key}: a number from 0 to {maximum} is wanted")
    return value


def optional_number(message: Mapping[str, Any], key: str) -> int | None:
    return None if message.get(key) is None else number(message, key)


def flag(message: Mapping[str, Any], key: str) -> bool:
    """A bool, and nothing that is like one. Raises ValueError."""
    value = message.get(key)
    if type(value) is not bool:
        raise ValueError(f"{key}: true or false is wanted")
    return value


def texts(message: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """At most ITEMS bounded strings. Raises ValueError."""
    value = message.get(key)
    if not isinstance(value, list) or len(value) > ITEMS:
        raise ValueError(f"{key}: a list of at most {ITEMS} texts is wanted")
    return tuple(text({key: item}, key) for item in value)


def mapping(message: Mapping[str, Any], key: str) -> Json:
    """An object with at most ITEMS keys, whose values are still to be checked. Raises ValueError."""
    value = message.get(key)
    if not isinstance(value, dict) or len(value) > ITEMS:
        raise ValueError(f"{key}: an object is wanted")
    return value


def encode_origin(origin: Origin) -> Json:
    return {
        "sandbox": origin.sandbox,
        "identity": origin.identity,
        "exec_id": origin.exec_id,
        "pid": origin.pid,
        "name": origin.name,
        "generation": origin.generation,
        "port": origin.port,
        "verdict": int(origin.verdict),
        "address": str(origin.address),
        "cookie": origin.cookie,
    }


def decode_origin(message: Json) -> Origin:
    return Origin(
        sandbox=number(message, "sandbox", maximum=2**32 - 1),
        identity=number(message, "identity", maximum=2**32 - 1),
        exec_id=number(message, "exec_id"),
        pid=number(message, "pid", maximum=2**32 - 1),
        name=number(message, "name", maximum=2**32 - 1),
        generation=number(message, "generation", maximum=2**32 - 1),
        port=number(message, "port", maximum=65535),
        verdict=Verdict(number(message, "verdict", maximum=255)),
        address=_address(text(message, "address")),
        cookie=number(message, "cookie"),
    )


def _address(spelt: str) -> Address:
    """An address in the one spelling that encode_origin writes: no zone, which would be text of the worker's own in every record."""
    address = ipaddress.ip_address(spelt)
    if str(address) != spelt or "%" in spelt:
        raise ValueError("address: not as it is written")
    return address


def encode_passed(passed: Passed) -> Json:
    return {"sent": passed.sent, "received": passed.received, "reason": passed.reason.value}


def decode_passed(message: Json) -> Passed:
    return Passed(number(message, "sent"), number(message, "received"), Reason(text(message, "reason")))


def encode_http(http: Http | None) -> Json | None:
    if http is None:
        return None
    return {
        "method": http.method,
        "path": http.path,
        "status": http.status,
        "request_bytes": http.request_bytes,
        "response_bytes": http.response_bytes,
    }


def decode_http(message: Mapping[str, Any], key: str) -> Http | None:
    if message.get(key) is None:
        return None
    http = mapping(message, key)
    return Http(
        method=text(http, "method"),
        path=text(http, "path"),
        status=optional_number(http, "status"),
        request_bytes=optional_number(http, "request_bytes"),
        response_bytes=optional_number(http, "response_bytes"),
    )


def _encode_binary(binary: Binary | None) -> Json | None:
    if binary is None:
        return None
    return {
        "name": binary.name,
        "names": sorted(binary.names),
        "path": binary.path,
        "script": binary.script,
        "sha256": binary.sha256,
        "identity": binary.identity,
    }


def _decode_binary(message: Json) -> Binary | None:
    if message.get("binary") is None:
        return None
    binary = mapping(message, "binary")
    return Binary(
        name=text(binary, "name"),
        names=frozenset(texts(binary, "names")),
        path=text(binary, "path"),
        script=optional_text(binary, "script"),
        sha256=text(binary, "sha256"),
        identity=text(binary, "identity"),
    )


def encode_record(record: Record) -> Json:
    destination = record.destination
    return {
        "action": record.action.value,
        "outcome": record.outcome.value,
        "effect": record.effect.value,
        "level": record.level.value,
        "reason": record.reason.value,
        "rule": record.rule,
        "enforced": record.enforced,
        "binary": _encode_binary(record.binary),
        "exec_id": record.exec_id,
        "pid": record.pid,
        "ancestry": list(record.ancestry),
        "destination": destination and {"host": destination.host, "port": destination.port, "address": destination.address},
        "http": encode_http(record.http),
        "generation": record.generation,
        "detail": dict(record.detail),
    }


def decode_record(message: Json) -> Record:
    """The record of a worker. Raises ValueError when a field is missing, of another type, too long or not of its closed list."""
    return Record(
        action=Action(text(message, "action")),
        outcome=Outcome(text(message, "outcome")),
        effect=Effect(text(message, "effect")),
        level=Level(text(message, "level")),
        reason=Reason(text(message, "reason")),
        rule=optional_text(message, "rule"),
        enforced=flag(message, "enforced"),
        binary=_decode_binary(message),
        exec_id=optional_number(message, "exec_id"),
        pid=optional_number(message, "pid"),
        ancestry=texts(message, "ancestry"),
        destination=_decode_destination(message),
        http=decode_http(message, "http"),
        generation=optional_number(message, "generation"),
        detail=decode_detail(message),
    )


def _decode_destination(message: Json) -> Destination | None:
    if message.get("destination") is None:
        return None
    destination = mapping(message, "destination")
    return Destination(
        host=text(destination, "host"),
        port=optional_number(destination, "port"),
        address=optional_text(destination, "address"),
    )


def decode_detail(message: Json) -> dict[str, str | int | list[str]]:
    """The detail of a record, or what is added to one. Raises ValueError."""
    detail = mapping(message, "detail")
    decoded: dict[str, str | int | list[str]] = {}
    for key, value in detail.items():
        if len(key) > TEXT:
            raise ValueError("detail: a key is too long")
        if isinstance(value, str):
            decoded[key] = text(detail, key)
        elif isinstance(value, list):
            decoded[key] = list(texts(detail, key))
        else:
            decoded[key] = number(detail, key)
    return decoded
