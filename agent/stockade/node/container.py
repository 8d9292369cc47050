"""One container of a pod, as its runtime prepares it: its first process, what the bundle says of it, and whether it has begun.

Everything is read through the process that started it (`/proc/PARENT/root`): the agent, itself in a container, sees the runtime's files so
without having them mounted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockade.sandbox.cgroup import Cgroup

_BUNDLES = (
    "run/containerd/io.containerd.runtime.v2.task/*/{id}",
    "run/k3s/containerd/io.containerd.runtime.v2.task/*/{id}",
    "run/containers/storage/overlay-containers/{id}/userdata",
    "var/run/containers/storage/overlay-containers/{id}/userdata",
)
_KINDS = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")
_NAMES = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_IMAGES = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName")
_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/docker.sock",
    "/run/cri-dockerd.sock",
    "/run/crio/crio.sock",
    "/run/podman/podman.sock",
)
_HANDED_ON = 0.5  # seconds in which the shim takes the place of whoever made a container, whose root nobody sees meanwhile
_SANDBOX = "sandbox"  # the kind of the one that holds a pod's namespaces


@dataclass(frozen=True, slots=True)
class Bundle:
    """holds: it is the pod's own, which holds its namespaces, and no container of the API's. search: its PATH. command: what it runs.

    capabilities: those that its processes may have; None where nothing says it. shown: directories and files of the node's in it.
    """

    name: str = ""
    image: str = ""
    holds: bool = False
    search: str = ""
    command: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    capabilities: frozenset[str] | None = None
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class First:
    """The first process of a container. mounts: inode of the mount namespace that its runtime is in.

    parent: a process of its runtime, first who made it, then the shim. root: of that one's files.
    """

    pid: int
    mounts: int

    @property
    def parent(self) -> int:
        return parent_of(self.pid)

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.parent}/root")

    @property
    def prepared(self) -> bool:
        """Whether it is in its own root file system and namespaces, so that only its program is to come."""
        try:
            own, outside = Path(f"/proc/{self.pid}/root").stat(), self.root.stat()
        except OSError:
            return False
        return (own.st_dev, own.st_ino) != (outside.st_dev, outside.st_ino)

    @property
    def begun(self) -> bool:
        """Whether it executes a file of the container's, and not its runtime any more. That has no name in there. But a runtime puts a
        process of its own into the cgroup first, and it has one as long as it is where its maker is: in the same root, as the same program.

        False for one that is gone: a runtime forks on its way.
        """
        executed = f"/proc/{self.pid}/exe"
        try:
            if not self.prepared and Path(executed).samefile(f"/proc/{self.parent}/exe"):
                return False
            name = os.readlink(executed)  # noqa: PTH115 (as the kernel spells it)
            return Path(f"/proc/{self.pid}/root{name}").samefile(executed)
        except OSError:
            return False


def waits(pid: int) -> bool:
    """Whether it is stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False


def parent_of(pid: int) -> int:
    """0 when there is none any more."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def first(cgroup: Cgroup) -> First | None:
    """None while there is no process in it that its runtime started.

    What a runtime is believed (its files, which mount namespace is not the container's) is not to be said by a process of the container's:
    a parent is neither in the same cgroup, nor in a PID namespace below this one, as whoever takes orphans up in there is.
    """
    inside = list(cgroup.processes())
    for pid in inside:
        with contextlib.suppress(OSError):
            parent = parent_of(pid)
            if parent and parent not in inside and _same("pid", parent, "self"):
                return First(pid, Path(f"/proc/{parent}/ns/mnt").stat().st_ino)
    return None


def _same(namespace: str, one: int, other: int | str) -> bool:
    """Raises OSError when either is gone."""
    return Path(f"/proc/{one}/ns/{namespace}").stat().st_ino == Path(f"/proc/{other}/ns/{namespace}").stat().st_ino


def bundle_of(identity: str, process: First) -> Bundle | None:
    """None where its runtime keeps none in a place that is known: a shim works in the bundle of its pod, which its others lie beside."""
    places = [Path(f"/proc/{process.parent}/cwd/../{identity}")]
    places += [directory for pattern in _BUNDLES for directory in process.root.glob(pattern.format(id=identity))]
    for directory in places:
        try:
            spec: Any = json.loads((directory / "config.json").read_bytes())
            return _described(spec)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            continue
    return None


def sockets_in(bundle: Bundle, process: First) -> list[str]:
    """Of runtimes, which start whatever they are asked to: those of this node that the container is shown, as the node calls them. In a
    thread."""
    shown = [_plain(each) for each in bundle.shown]
    if not shown:
        return []
    until = time.monotonic() + _HANDED_ON
    while not process.root.exists() and time.monotonic() < until:
        time.sleep(0.002)
    known = dict.fromkeys(_plain(each) for each in (*_SOCKETS, *_addresses(process)))
    return [each for each in known if any(_beneath(each, place) for place in shown) and Path(f"{process.root}{each}").is_socket()]


def _addresses(process: First) -> list[str]:
    """Where the runtime of this container listens, as a shim of containerd's is told, which its parent is, or whose parent that is."""
    found, pid = [], process.parent
    for _ in range(2):
        with contextlib.suppress(OSError):
            words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
            found += [value for word, value in itertools.pairwise(words) if word == "-address" and value.startswith("/")]
        pid = parent_of(pid)
    return found


def _plain(path: str) -> str:
    """/var/run is another name of /run, on every node that has it."""
    plain = posixpath.normpath(path)
    return plain.removeprefix("/var") if _beneath(plain, "/var/run") else plain


def _beneath(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _described(spec: Any) -> Bundle:
    annotations = {str(key): str(value) for key, value in (spec.get("annotations") or {}).items()}
    process = spec.get("process") or {}
    variables = dict(str(each).partition("=")[::2] for each in process.get("env") or ())
    return Bundle(
        next((annotations[key] for key in _NAMES if annotations.get(key)), ""),
        next((annotations[key] for key in _IMAGES if annotations.get(key)), ""),
        next((annotations[key] for key in _KINDS if key in annotations), "") == _SANDBOX,
        variables.get("PATH", ""),
        tuple(str(word) for word in process.get("args") or ()),
        annotations,
        frozenset(str(name) for names in (process.get("capabilities") or {}).values() for name in names),
        tuple(str(each.get("source", "")) for each in spec.get("mounts") or () if {"bind", "rbind"} & {*(each.get("options") or ())}),
    )
