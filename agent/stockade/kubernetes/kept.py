"""What is known of the cluster, on this node's disk: enough to go on from when the API is away, also at the start.

    policies/*.yaml  each generation of a policy that loads, as long as something is held to it; never written twice
    known.json       those policies as resources, the namespaces' labels, the pods, and what is wanted of each

Every file is there whole or not at all. What cannot be read is as if it were not there: the API is then waited for, and until it answers
nothing gets out of a pod.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockade.kubernetes.resources import Json, Key, Resource, Seen
from stockade.node.pod import Pod

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Decided:
    """What was last wanted of a pod. files None: it is left alone. whole: of every policy that means it, and none of them was broken."""

    files: tuple[Path, ...] | None
    revision: str = ""
    observe: bool = False
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """policies: the generation of each that loaded last. decided: by the uid that the pod's cgroup has."""

    policies: tuple[Resource, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pods: tuple[Seen, ...] = ()
    decided: Mapping[str, Decided] = field(default_factory=dict)


class Kept:
    """A Known on disk. policies: the directory of their texts, beside it."""

    def __init__(self, directory: Path) -> None:
        self.policies = directory / "policies"
        self._file = directory / "known.json"
        self._last = b""

    def open(self) -> None:
        """Raises OSError."""
        self.policies.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, known: Known) -> None:
        """Raises OSError."""
        text = json.dumps({"format": _FORMAT, **dataclasses.asdict(known)}, default=str, separators=(",", ":")).encode()
        if text != self._last:
            written(self._file, text)
            self._last = text

    def read(self) -> Known | None:
        try:
            found = json.loads(self._file.read_bytes())
            return _known(found) if found["format"] == _FORMAT else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def clear(self, needed: set[Path]) -> None:
        """Removes the files that nothing is held to any more."""
        for path in set(self.policies.iterdir()) - needed:
            with contextlib.suppress(OSError):
                path.unlink()


def written(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk before the name is: the machine may die in between. Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    fresh.rename(path)


def _known(found: Json) -> Known:
    """Raises KeyError, TypeError, ValueError: it is of another form."""
    return Known(
        tuple(Resource(**each | {"key": Key(*each["key"])}) for each in found["policies"]),
        found["namespaces"],
        tuple(_seen(each) for each in found["pods"]),
        {uid: _decided(each) for uid, each in found["decided"].items()},
    )


def _seen(found: Json) -> Seen:
    names, pod = found["names"], found["pod"]
    return Seen(**found | {"pod": Pod(**pod | {"ports": tuple(pod["ports"])}), "names": None if names is None else tuple(names)})


def _decided(found: Json) -> Decided:
    files: Any = found["files"]
    return Decided(**found | {"files": None if files is None else tuple(map(Path, files))})
