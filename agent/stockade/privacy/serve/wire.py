"""What passes between a proxy worker and the classifier: JSON, since neither is believed by the other.

Both parse what a sandbox wrote, so each checks the other's frames as if the sandbox had written them: shapes, types, sizes, offsets.
`decode_*` raise ValueError on anything that `encode_*` would not have written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stockade.privacy.finding import CATEGORIES, Finding

Json = dict[str, Any]

REQUEST_BYTES = 160 << 20  # a body at its bound, every character of it escaped
ANSWER_BYTES = 64 << 20
TEXTS = 200_000
FINDINGS = 500_000  # of one request
NAME = 256


@dataclass(frozen=True, slots=True)
class Hello:
    """Who reads. provider: what the model runs on, None without one. missing: layers that could not be loaded, with the reason."""

    provider: str | None
    model: str | None
    detectors: Mapping[str, str]
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. settings: the key under which the sender's settings were sent. seconds: after which nobody waits any more. lanes,
    formed, apart, spoken: as of Classifier.classify.
    """

    number: int
    texts: tuple[str, ...]
    lanes: tuple[tuple[int, ...], ...]
    settings: str
    seconds: float
    formed: tuple[int, ...] = ()
    apart: tuple[int, ...] = ()
    spoken: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """The answer. failed: why there are no findings."""

    number: int
    findings: tuple[tuple[Finding, ...], ...] = ()
    failed: str | None = None
    cached: bool = False  # it was known


def dump(message: Json) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def load(frame: bytes) -> Json:
    """Raises ValueError."""
    try:
        message = json.loads(frame)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(message, dict):
        raise ValueError("an object is wanted")
    return message


def encode_hello(hello: Hello) -> Json:
    return {"provider": hello.provider, "model": hello.model, "detectors": dict(hello.detectors), "missing": dict(hello.missing)}


def decode_hello(message: Json) -> Hello:
    return Hello(
        _name_or_none(message, "provider"), _name_or_none(message, "model"), _names(message, "detectors"), _names(message, "missing")
    )


def encode_asked(asked: Asked) -> Json:
    told = {"id": asked.number, "texts": asked.texts, "lanes": asked.lanes, "settings": asked.settings, "seconds": asked.seconds}
    places = {"formed": asked.formed, "apart": asked.apart, "spoken": asked.spoken}
    return told | {name: value for name, value in places.items() if value}


def decode_asked(message: Json) -> Asked:
    texts, lanes, seconds = message.get("texts"), message.get("lanes"), message.get("seconds")
    if not isinstance(texts, list) or len(texts) > TEXTS or not all(isinstance(text, str) for text in texts):
        raise ValueError("texts: a list of texts is wanted")
    if not isinstance(lanes, list) or len(lanes) > 64:
        raise ValueError("lanes: a list is wanted")
    orders = [_places(lane, len(texts)) for lane in lanes]
    formed, apart, spoken = (_places(message.get(name, []), len(texts)) for name in ("formed", "apart", "spoken"))
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= 3600:
        raise ValueError("seconds: a time is wanted")
    return Asked(_number(message), tuple(texts), tuple(orders), _name(message, "settings"), float(seconds), formed, apart, spoken)


def _places(value: Any, texts: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > texts or not all(type(place) is int and 0 <= place < texts for place in value):
        raise ValueError("lanes, formed, apart, spoken: indices of texts are wanted")
    return tuple(value)


def encode_told(told: Told) -> Json:
    if told.failed is not None:
        return {"id": told.number, "failed": told.failed}
    found = [[[each.start, each.end, each.category, each.detector, each.score] for each in findings] for findings in told.findings]
    return {"id": told.number, "findings": found} | ({"cached": True} if told.cached else {})


def decode_told(message: Json) -> tuple[int, str | None, list[Any]]:
    """(number, failed, findings as they came): what they are of is known to who asked, and `decode_findings` holds them to it."""
    failed = _name_or_none(message, "failed")
    found = message.get("findings")
    if failed is None and not isinstance(found, list):
        raise ValueError("findings: a list is wanted")
    return _number(message), failed, found if isinstance(found, list) else []


def decode_findings(raw: Sequence[Any], texts: Sequence[str], categories: frozenset[str] = frozenset()) -> list[list[Finding]]:
    """The findings of each text. categories: further ones that the policy made up. Raises ValueError."""
    if len(raw) != len(texts) or sum(len(each) if isinstance(each, list) else 0 for each in raw) > FINDINGS:
        raise ValueError("findings: one list for each text is wanted")
    return [[_finding(each, text, categories) for each in _listed(findings)] for findings, text in zip(raw, texts, strict=True)]


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("findings: a list is wanted")
    return value


def _finding(raw: Any, text: str, categories: frozenset[str]) -> Finding:
    if not isinstance(raw, list) or len(raw) != 5:
        raise ValueError("a finding has five fields")
    start, end, category, detector, score = raw
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
        raise ValueError("a finding lies in its text")
    if not isinstance(category, str) or (category not in CATEGORIES and category not in categories):
        raise ValueError("a finding has a known category")
    if not isinstance(detector, str) or not 0 < len(detector) <= NAME:
        raise ValueError("a finding names its detector")
    if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score) or not 0 <= score <= 1:
        raise ValueError("a score is from 0 to 1")
    return Finding(start, end, category, detector, float(score))


def _number(message: Json) -> int:
    value = message.get("id")
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("id: a number is wanted")
    return value


def _name(message: Json, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError(f"{key}: a short text is wanted")
    return value


def _name_or_none(message: Json, key: str) -> str | None:
    return None if message.get(key) is None else _name(message, key)


def _names(message: Json, key: str) -> dict[str, str]:
    value = message.get(key)
    if not isinstance(value, dict) or len(value) > 64:
        raise ValueError(f"{key}: an object is wanted")
    return {str(name)[:NAME]: _name(value, name) for name in value}
