"""What is wanted of an attachment as it is handed to a daemon, and as that writes it down for the next one.

A target is looked up by whoever asks, on the same machine, and looked at again by whoever governs it: its cgroup must be the same still.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockade.attach import target
from stockade.attach.runtimes import Container
from stockade.attach.target import Target
from stockade.attach.wanted import Wanted
from stockade.daemon import ordered
from stockade.daemon.ordered import Json, text
from stockade.sandbox.cgroup import Cgroup
from stockade.service.state import Process
from stockade.types import StockadeError

LEFT_HELD = "left_held"  # the code of an end that lets go of nothing

_FORMAT = 1
_EXISTING = ("cut", "keep")


def said(wanted: Wanted) -> Json:
    """Raises StockadeError for a target that is gone."""
    found = wanted.target
    init = Process.of(found.init) or Process(found.init, 0)  # which nobody is any more: others of the cgroup speak for it
    return {
        "order": ordered.said(wanted.order),
        "existing": wanted.existing,
        "trusted": wanted.trusted,
        "target": {
            "cgroup": str(found.cgroup.path),
            "id": _identity(found.cgroup),
            "pid": init.pid,
            "started": init.started,
            "root": found.root,
            "starting": found.starting,
            "name": found.name,
            "container": _container_said(found.container) if found.container is not None else None,
        },
    }


def heard(said: Mapping[str, Any]) -> Wanted:
    """Raises StockadeError: the target is not what it was, or this is not what `said` makes."""
    try:
        order, there = ordered.heard(said["order"]), said["target"]
        existing = said["existing"]
        if existing not in _EXISTING:
            raise ValueError(f"existing is {' or '.join(_EXISTING)}")
        container = _container_heard(there["container"]) if there["container"] is not None else None
        init = Process(int(there["pid"]), int(there["started"]))
        where, root, name = Path(text(there["cgroup"])), text(there["root"]), text(there["name"])
        found = Target(Cgroup(where), init.pid, container, root, name, bool(there["starting"]))
        identity, trusted = int(there["id"]), text(said["trusted"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StockadeError(f"not what is wanted of an attachment: {error!r}", code="bad_request") from None
    return Wanted(order, target.known(found, identity, init), existing, trusted)


def _identity(cgroup: Cgroup) -> int:
    try:
        return cgroup.id
    except OSError:
        raise StockadeError(f"{cgroup.path} is gone", code="no_cgroup") from None


def _container_said(container: Container) -> Json:
    return dataclasses.asdict(container) | {
        "bundle": str(container.bundle) if container.bundle is not None else None,
        "capabilities": sorted(container.capabilities) if container.capabilities is not None else None,
    }


def _container_heard(said: Mapping[str, Any]) -> Container:
    return Container(
        id=text(said["id"]),
        runtime=text(said["runtime"]),
        pid=int(said["pid"]),
        name=text(said["name"]),
        image=text(said["image"]),
        bundle=Path(text(said["bundle"])) if said["bundle"] is not None else None,
        search=text(said["search"]),
        command=tuple(map(text, said["command"])),
        annotations={text(name): text(value) for name, value in said["annotations"].items()},
        shared=bool(said["shared"]),
        capabilities=frozenset(map(text, said["capabilities"])) if said["capabilities"] is not None else None,
    )


def write_down(path: Path, wanted: Wanted, trusted: str) -> None:
    """For the next daemon, whole or not at all: under the name that it has, and with what it was given. Raises StockadeError.

    Connections that were kept are cut then, as of whatever was held meanwhile: the policy may have come to refuse what they lead to.
    """
    order, there = dataclasses.replace(wanted.order, name=wanted.name), dataclasses.replace(wanted.target, root="", starting=False)
    found = dataclasses.replace(wanted, order=order, trusted=trusted, target=there, existing="cut")
    new = path.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123 (a descriptor)
            json.dump({"format": _FORMAT, **said(found)}, file)
        new.rename(path)
    except OSError as error:
        raise StockadeError(f"nothing can be written down for the next daemon: {error.strerror}", code="state") from None


def read(path: Path) -> Wanted:
    """What another daemon wrote down. Raises StockadeError."""
    return heard(_read(path))


def trusted(path: Path) -> str:
    """What the target was given, by what is written down of it."""
    try:
        return text(_read(path).get("trusted"))
    except (StockadeError, TypeError):
        return ""


def _read(path: Path) -> Json:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise ValueError("another version's")
    except (OSError, ValueError, RecursionError) as error:
        raise StockadeError(f"{path} is not what this daemon can read: {error}", code="state") from None
    return found
