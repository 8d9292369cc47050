"""An order as it goes over a daemon's socket, and as it is written down for the next one. Paths are absolute: it is read elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockade.service.order import Order

_PATHS = ("workdir", "approvals")

Json = dict[str, Any]


def said(order: Order) -> Json:
    """Without what only an agent of its own can do: a trail, settings, metrics and words of its own."""
    found: Json = {
        "command": list(order.command),
        "policies": [str(path.absolute()) for path in order.policies],
        "presets": list(order.presets),
        "name": order.name,
        "labels": [list(label) for label in order.labels],
        "binds": [list(bind) for bind in order.binds],
        "observe": order.observe,
        "verbose": order.verbose,
    }
    for name in _PATHS:
        path = getattr(order, name)
        found[name] = str(path.absolute()) if path is not None else None
    return found


def heard(said: Mapping[str, Any]) -> Order:
    """Raises ValueError, KeyError, TypeError for what `said` never makes."""
    paths = {name: Path(text(said[name])) if said[name] is not None else None for name in _PATHS}
    return Order(
        command=_texts(said["command"]),
        policies=tuple(map(Path, _texts(said["policies"]))),
        presets=_texts(said["presets"]),
        name=text(said["name"]) if said["name"] is not None else None,
        labels=tuple((text(key), text(value)) for key, value in said["labels"]),
        binds=tuple((text(source), text(target), bool(writable)) for source, target, writable in said["binds"]),
        observe=bool(said["observe"]),
        verbose=bool(said["verbose"]),
        workdir=paths["workdir"],
        approvals=paths["approvals"],
    )


def text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError("a text is wanted")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("a list is wanted")
    return tuple(map(text, value))
