"""Where the pods of a node and their containers are, as cgroups of the v2 hierarchy: told as they come, and as they go.

Kubelet makes a pod's cgroup before anything of the pod runs, and a runtime each container's before its first process. Owns the spellings:

    cgroupfs  kubepods[/burstable|/besteffort]/podUID/CONTAINER
    systemd   kubepods.slice[/kubepods-burstable.slice]/kubepods[-burstable]-podUID.slice/cri-containerd-CONTAINER.scope, UID with _ for -
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from stockade.node.inotify import Watcher
from stockade.sandbox.cgroup import Cgroup, mounted

log = logging.getLogger(__name__)

_UID = "[0-9a-f]{8}(?P<dash>[-_])[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{12}|[0-9a-f]{32}"
_POD = re.compile(rf"(?:[a-z-]+-)?pod(?P<uid>{_UID})(?:\.slice)?")
_ROOT = re.compile(r"(?:[A-Za-z0-9_.-]*-)?kubepods(?:\.slice)?")
_CLASS = re.compile(r"burstable|besteffort|(?:[A-Za-z0-9_.-]*-)?kubepods-(?:burstable|besteffort)\.slice")
_CONTAINER = re.compile(r"(?:(?P<runtime>cri-containerd|crio|docker|cri-dockerd)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
AGAIN = 1.0  # seconds after which everything is looked at again, when something went wrong
_DEPTH = 3  # below the top of the hierarchy: a node may itself be in something, as kind's are


def of_a_file(uid: str) -> bool:
    """Whether a pod is a static one, of a file of the kubelet's: its uid is a hash.

    Not closed until the API says what it is: the API server itself, or what it needs, may be one, and would then wait for itself.
    """
    return len(uid) == 32 and "-" not in uid and "_" not in uid


class Told(Protocol):
    """Called on the loop; each for what was there before, too."""

    def pod_came(self, uid: str, cgroup: Cgroup) -> None: ...

    def pod_went(self, uid: str) -> None: ...

    def container_came(self, uid: str, identity: str, cgroup: Cgroup) -> None: ...

    def container_went(self, uid: str, identity: str) -> None: ...


def pod_of(name: str) -> str | None:
    """The UID in the name of a pod's cgroup, as the API spells it; None for another directory."""
    found = _POD.fullmatch(name)
    return found["uid"].replace("_", "-") if found else None


def container_of(name: str) -> str | None:
    """The id in the name of a container's cgroup; None for another directory."""
    found = _CONTAINER.fullmatch(name)
    return found["id"] if found else None


class Places:
    """top: of the v2 hierarchy."""

    def __init__(self, told: Told, top: Path | None = None) -> None:
        self._told, self._top = told, top or mounted()
        self._watcher = Watcher()
        self._roots: set[Path] = set()
        self._pods: dict[Path, str] = {}
        self._containers: dict[Path, tuple[str, str]] = {}

    async def watch(self) -> None:
        """For ever. What is there is told before the first wait."""
        loop, stirred = asyncio.get_running_loop(), asyncio.Event()
        self._watcher.add(self._top)
        loop.add_reader(self._watcher.descriptor, stirred.set)
        try:
            lost = False
            while True:
                try:
                    if lost:
                        self._again()
                    self._look()
                    lost = False
                except Exception:  # no room for a watch, say: until there is some a pod may come that nobody sees
                    log.exception("pods cannot be looked for")
                    lost = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stirred.wait(), AGAIN if lost else None)
                stirred.clear()
                try:
                    self._hear()
                except Exception:
                    log.exception("a change of pods was not understood")
                    lost = True
        finally:
            loop.remove_reader(self._watcher.descriptor)
            self._watcher.close()

    def tell_again(self, uid: str) -> None:
        """Of a pod that was told before, and of its containers, if its cgroup is there."""
        for path in [path for path, known in self._pods.items() if known == uid and path.exists()]:
            self._told.pod_came(uid, Cgroup(path))
            for container, (_, identity) in [each for each in self._containers.items() if each[0].parent == path]:
                self._told.container_came(uid, identity, Cgroup(container))

    def _look(self) -> None:
        """For kubepods that have come: a kubelet makes its own when it starts, and some do with their first pod."""
        for root in _roots(self._top, _DEPTH):
            if root not in self._roots and self._watched(root):
                self._roots.add(root)
                self._into(root)

    def _hear(self) -> None:
        for change in self._watcher.changes():
            if change.path is None:
                self._again()
            elif change.came:
                self._came(change.path)
            else:
                self._went(change.path)

    def _again(self) -> None:
        """After some changes were lost."""
        for path in [path for path in (*self._containers, *self._pods, *self._roots) if not path.exists()]:
            self._went(path)
        for root in list(self._roots):
            self._into(root)

    def _into(self, directory: Path) -> None:
        for child in _directories(directory):
            self._came(child)

    def _came(self, path: Path) -> None:
        """Watched before it is looked into: what comes between the two is told twice, and taken once."""
        if (uid := self._pods.get(path.parent)) is not None:
            if (identity := container_of(path.name)) is not None and path not in self._containers:
                self._told.container_came(uid, identity, Cgroup(path))
                self._containers[path] = uid, identity
        elif (uid := pod_of(path.name)) is not None:
            if path not in self._pods and self._watched(path):
                self._told.pod_came(uid, Cgroup(path))
                self._pods[path] = uid
            self._into(path)
        elif _CLASS.fullmatch(path.name) and self._watched(path):
            self._into(path)

    def _went(self, path: Path) -> None:
        if (known := self._containers.pop(path, None)) is not None:
            self._told.container_went(*known)
        elif (uid := self._pods.pop(path, None)) is not None:
            for each in [each for each in self._containers if each.parent == path]:
                self._went(each)
            self._told.pod_went(uid)
        self._roots.discard(path)

    def _watched(self, path: Path) -> bool:
        """False for one that is gone already."""
        try:
            self._watcher.add(path)
        except FileNotFoundError:
            return False
        return True


def _roots(top: Path, depth: int) -> Iterator[Path]:
    for child in _directories(top):
        if _ROOT.fullmatch(child.name):
            yield child
        elif depth > 1 and pod_of(child.name) is None:
            yield from _roots(child, depth - 1)


def _directories(path: Path) -> list[Path]:
    try:
        return [child for child in path.iterdir() if child.is_dir()]
    except OSError:
        return []
