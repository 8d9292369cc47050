"""The settings of a policy as they travel: told once to a classifier, and named by their digest from then on."""

from __future__ import annotations

import hashlib
from typing import Any

from stockade.privacy.dictionary import Custom, Dictionary
from stockade.privacy.serve.wire import Json, dump
from stockade.privacy.settings import Settings

TERMS = 1_000_000  # words of all dictionaries of a policy


def encode(settings: Settings) -> Json:
    return {
        "thresholds": [[name, score] for name, score in settings.thresholds],
        "dictionaries": [[each.name, each.category, list(each.terms)] for each in settings.dictionaries],
        "custom": [[each.name, each.pattern, each.category] for each in settings.custom],
    }


def key_of(encoded: Json) -> str:
    return hashlib.sha256(dump(encoded)).hexdigest()


def decode(message: Json) -> Settings:
    """Raises ValueError."""
    thresholds = [_texts(each, 1, score=True) for each in _list(message, "thresholds")]
    custom = [Custom(*_texts(each, 3)) for each in _list(message, "custom")]
    dictionaries = []
    for each in _list(message, "dictionaries"):
        if not isinstance(each, list) or len(each) != 3 or not isinstance(each[2], list):
            raise ValueError("dictionaries: name, category and terms are wanted")
        name, category, terms = each
        _texts([name, category], 2)
        dictionaries.append(Dictionary(name, category, tuple(_texts(terms, len(terms)))))
    if sum(len(each.terms) for each in dictionaries) > TERMS:
        raise ValueError("dictionaries: too many terms")
    return Settings(tuple((name, float(score)) for name, score in thresholds), tuple(dictionaries), tuple(custom))


def _list(message: Json, key: str) -> list[Any]:
    value = message.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key}: a list is wanted")
    return value


def _texts(value: Any, count: int, *, score: bool = False) -> list[Any]:
    if not isinstance(value, list) or len(value) != count + score or not all(isinstance(each, str) for each in value[:count]):
        raise ValueError(f"{count} texts are wanted")
    if score and (type(value[-1]) not in (int, float) or not 0 <= value[-1] <= 1):
        raise ValueError("a score from 0 to 1 is wanted")
    return value
