"""What is to be governed: a cgroup of the v2 hierarchy, the process that speaks for it, and how its runtime calls it.

Owns the spellings: a path, systemd's `slice:prefix:name`, a unit, a process, a container. Refuses what would govern Stockade itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stockade.attach import runtimes
from stockade.attach.runtimes import Container
from stockade.sandbox.cgroup import PARENT, Cgroup, mounted
from stockade.sandbox.joined import Joined
from stockade.service.state import Process
from stockade.types import StockadeError

NET_RAW, SYS_PTRACE = 13, 19
# With one of these a process can take away what holds it: CAP_NET_ADMIN, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_ADMIN, CAP_BPF.
FATAL = {12: "CAP_NET_ADMIN", 16: "CAP_SYS_MODULE", 17: "CAP_SYS_RAWIO", 21: "CAP_SYS_ADMIN", 39: "CAP_BPF"}
_NAMES = {**FATAL, NET_RAW: "CAP_NET_RAW", SYS_PTRACE: "CAP_SYS_PTRACE"}
PTRACE = "CAP_SYS_PTRACE in the machine's PID namespace"
# What a runtime executes in a container (`kubectl exec`, a probe) is in its PID namespace before it gives its capabilities up. It is not
# dumpable meanwhile (runc: CVE-2016-9962), which keeps out everybody but who has this one (ptrace(2), "Ptrace access mode checking").
PTRACE_WITHIN = "CAP_SYS_PTRACE, with which it can act through what its runtime executes in it"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_INNER = ("/init.scope", "/container", "/runtime")  # which systemd, crun and podman make inside a container's own cgroup


@dataclass(frozen=True, slots=True)
class Target:
    """init: its first process. root: the directory that is the root of what it executes, a path of this machine's.

    starting: that process is still its runtime's own, which keeps every capability until it executes the container's command.
    """

    cgroup: Cgroup
    init: int
    container: Container | None = None
    root: str = ""
    name: str = ""
    starting: bool = False

    @property
    def called(self) -> str:
        """As a sandbox can be called: see policy.neighbour.NAME."""
        called = self.name or (self.container.called if self.container is not None else self.cgroup.path.name)
        return _UNFIT.sub("-", called).lstrip(".-_")[:63] or "container"

    @property
    def directory(self) -> str:
        return self.root or f"/proc/{self.init}/root"

    @property
    def root_inside(self) -> str:
        """The same directory as its mount namespace calls it."""
        return self.directory.removeprefix(f"/proc/{self.init}/root") or "/"

    @property
    def labels(self) -> dict[str, str]:
        """For every record."""
        if self.container is None:
            return {"cgroup": f"/{self.cgroup.path.relative_to(mounted())}"}
        known = {"container": self.container.called, "container_id": self.container.id, "image": self.container.image}
        return {key: value for key, value in known.items() if value}

    def fatal(self) -> list[str]:
        """The capabilities of its processes with which they could take away what holds them, or act through somebody who is not held."""
        found = self._capabilities()
        names = [name for bit, name in FATAL.items() if found >> bit & 1]
        if found >> SYS_PTRACE & 1:
            names.append(PTRACE if any(is_ours(pid, "pid") for pid in self.cgroup.processes()) else PTRACE_WITHIN)
        return names

    @property
    def raw(self) -> bool:
        """Whether something in it may make packets of its own."""
        return bool(self._capabilities() >> NET_RAW & 1)

    def _capabilities(self) -> int:
        """Of all its processes; of one that starts, what its runtime was told to give it."""
        told = self.container.capabilities if self.container is not None and self.starting else None
        if told is None:
            return _capabilities({*self.cgroup.processes(), self.init})
        given = sum(1 << bit for bit, name in _NAMES.items() if name in told)
        together = _capabilities(pid for pid in self.cgroup.processes() if pid != self.init)
        with contextlib.suppress(OSError):  # it has just ended
            together |= _counting(self.init, given)
        return together


def of_container(wanted: str) -> Target:
    """Raises StockadeError."""
    container = runtimes.find(wanted)
    return Target(_checked(_outer(_cgroup_of(container.pid))), container.pid, container)


def of_process(pid: int) -> Target:
    """The whole cgroup of a process. Raises StockadeError."""
    cgroup = _checked(_outer(_cgroup_of(pid)))
    container = runtimes.of_process(pid)
    return Target(cgroup, pid if container is not None else _first(cgroup), container)


def of_cgroup(text: str) -> Target:
    """A path, absolute or from the top of the hierarchy, or systemd's `slice:prefix:name`. Raises StockadeError."""
    return _of(_checked(_existing(spelt(text))))


def of_unit(unit: str) -> Target:
    """A unit of systemd's, by the cgroup that has its name. Raises StockadeError."""
    top = mounted()
    name = unit if "." in unit else f"{unit}.service"
    if not name.strip(".") or "/" in name:
        raise StockadeError(f"--systemd {unit}: not the name of a unit", code="no_cgroup")
    found = [Path(directory) for directory, _, _ in os.walk(top) if Path(directory).name == name]
    if len(found) != 1:
        where = "; ".join(f"/{path.relative_to(top)}" for path in found)
        said = f"several cgroups are called {name}: {where}" if found else f"no cgroup is called {name}: the unit does not run"
        raise StockadeError(said, hint="name one with --cgroup" if found else f"systemctl status {name}", code="no_cgroup")
    return _of(_checked(found[0]))


def of_starting(container: Container, root: str) -> Target:
    """A container that its runtime has prepared and not started. root: of its files, before it is its root."""
    return Target(_checked(_outer(_cgroup_of(container.pid))), container.pid, container, root, starting=True)


def known(target: Target, identity: int, init: Process) -> Target:
    """One that somebody else looked up, or wrote down: as it is now. identity: of its cgroup. init: its first process then.

    Raises StockadeError: it is gone, or nothing runs in it.
    """
    cgroup = _checked(target.cgroup.path)
    if cgroup.id != identity:
        raise StockadeError(f"{cgroup.path} is gone, and another has its name", code="no_cgroup")
    if init.lives and init.pid in cgroup.processes():
        return dataclasses.replace(target, cgroup=cgroup, init=init.pid)
    return dataclasses.replace(target, cgroup=cgroup, init=_first(cgroup), root="", starting=False)  # others may outlive it


def _of(cgroup: Cgroup) -> Target:
    init = _first(cgroup)
    return Target(cgroup, init, runtimes.of_process(init))


def spelt(text: str, top: Path | None = None) -> Path:
    """The directory that a cgroup's name means: `/kubepods/…`, a path below the mount, or systemd's `slice:prefix:name`."""
    top = top or mounted()
    words = text.split(":")
    if len(words) == 3 and "/" not in text:
        slice_, prefix, name = words
        return top / _slices(slice_ or "system.slice") / (f"{prefix}-{name}.scope" if prefix else f"{name}.scope")
    path = Path(os.path.normpath("/" + text.lstrip("/")))
    return path if path.is_relative_to(top) else top / str(path).lstrip("/")


def _slices(name: str) -> Path:
    """`a-b-c.slice` is in `a-b.slice`, which is in `a.slice` (systemd.slice(5)). `-.slice` is the top."""
    words = name.removesuffix(".slice").split("-")
    if not any(words):
        return Path()
    return Path(*("-".join(words[: count + 1]) + ".slice" for count in range(len(words))))


def _existing(path: Path) -> Path:
    if not (path / "cgroup.procs").exists():
        raise StockadeError(f"{path} is no cgroup of the v2 hierarchy", hint=f"one below {mounted()}", code="no_cgroup")
    return path


def _cgroup_of(pid: int) -> Path:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        raise StockadeError(f"there is no process {pid}", code="no_process") from None
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        raise StockadeError(f"process {pid} is in no cgroup of the v2 hierarchy", code="no_cgroup")
    return _existing(mounted() / own.lstrip("/"))


def _outer(path: Path) -> Path:
    return next((Path(str(path).removesuffix(inner)) for inner in _INNER if str(path).endswith(inner)), path)


def _checked(path: Path) -> Cgroup:
    top = mounted()
    if path == top:
        raise StockadeError("that is the whole machine", hint="name a cgroup below the top of the hierarchy", code="bad_target")
    if path.is_relative_to(top / PARENT):
        raise StockadeError(f"{path} is Stockade's own", hint="what `stockade run` started is governed already", code="bad_target")
    if (Path("/proc/self/cgroup").read_text().split("0::", 1)[-1].splitlines()[0] + "/").startswith(f"/{path.relative_to(top)}/"):
        raise StockadeError(f"{path} holds the process that would govern it", hint="start it from elsewhere", code="bad_target")
    if not path.is_dir():
        raise StockadeError(f"{path} is gone", code="no_cgroup")
    return Cgroup(path)


def _first(cgroup: Cgroup) -> int:
    """The process that has been there longest. Raises StockadeError for a cgroup without any."""
    found: list[tuple[int, int]] = []
    for pid in cgroup.processes():
        with contextlib.suppress(OSError, ValueError, IndexError):
            found.append((int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]), pid))
    if not found:
        raise StockadeError(f"nothing runs in {cgroup.path}", code="no_process")
    return min(found)[1]


def _capabilities(processes: Iterable[int]) -> int:
    """Of all of them together: what each has or may get back (capabilities(7)), as far as it counts."""
    together = 0
    for pid in processes:
        with contextlib.suppress(OSError, ValueError):
            lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
            together |= _counting(pid, int(lines["CapBnd"], 16) | int(lines["CapPrm"], 16))
    return together


def _counting(pid: int, held: int) -> int:
    """Those of a process that count: all where its user namespace is this machine's own, else those over the network namespace that was
    made with it. A process in a user namespace that owns neither has none. Raises OSError: it has ended."""
    if os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user"):  # noqa: PTH115
        return held
    return held & (1 << 12 | 1 << NET_RAW)


def elsewhere(target: Target, joined: Joined) -> list[int]:
    """Of each other network namespace that has a device, one of the target's processes in it."""
    found: dict[int, int] = {joined.inode: 0}
    for pid in target.cgroup.processes():
        try:
            other = Joined(pid)
        except StockadeError:  # it has just ended
            continue
        try:
            if other.inode not in found:
                found[other.inode] = pid if other.devices() else 0
        finally:
            other.close()
    return sorted(pid for pid in found.values() if pid)


def is_ours(pid: int, kind: str) -> bool:
    """Whether that process is in this one's own namespace."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")  # noqa: PTH115 (no file: a name)
    except OSError:
        return False
