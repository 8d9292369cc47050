"""What the processes of a container may do to get out of what they are held by: the capabilities that its runtime gives them, the runtimes
that they may ask, and what holds them, where they may write that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from stockade.attach.mounts import mounts, named
from stockade.attach.target import FATAL, PTRACE, PTRACE_WITHIN, Target, is_ours
from stockade.node.arriving import Arrival
from stockade.node.container import sockets_in
from stockade.sandbox.cgroup import Cgroup, mounted


@dataclass(frozen=True, slots=True)
class Powers:
    """fatal: with which they could take away what holds them, or act through somebody who is not held, in words. raw: they may make packets
    of their own."""

    fatal: tuple[str, ...] = ()
    raw: bool = False


def powers(arrival: Arrival) -> Powers:
    """As its runtime was told, while its first process is still the runtime's own, which keeps everything; and as they are. In a thread."""
    shown = [f"{each}, by which it can start what nobody holds" for each in sockets_in(arrival.bundle, arrival.process)]
    shown += _writable(arrival)
    told = arrival.bundle.capabilities
    if told is not None and not arrival.process.begun:
        # It is in its namespaces already. What is written of them does not say as much: a path may lead to the machine's own.
        return Powers((*_fatal(told, ours=is_ours(arrival.process.pid, "pid")), *shown), "CAP_NET_RAW" in told)
    target = Target(arrival.cgroup, arrival.process.pid)
    return Powers((*target.fatal(), *shown), target.raw)


def _fatal(told: Collection[str], *, ours: bool) -> list[str]:
    """ours: it is in the machine's PID namespace."""
    trace = [PTRACE if ours else PTRACE_WITHIN] if "CAP_SYS_PTRACE" in told else []
    return [*(name for name in FATAL.values() if name in told), *trace]


def _writable(arrival: Arrival) -> list[str]:
    """Where pods are held, as far as it may write there: it moves itself to a cgroup that nobody holds, or unpins what holds it. Whoever
    shows it a directory above may do so without knowing: a mount below one that is read-only is not.
    Where one that arrives stands, the root before may be there still, which its runtime takes away."""
    found, arriving = [], arrival.arriving  # asked before: whoever begins meanwhile has what he has then
    there = mounts(arrival.process.pid)
    for mount in named(there) if arriving else there:
        if mount.writable and "ro" not in mount.options:
            if mount.kind == "bpf":
                found.append(f"{mount.point}, where what holds it is pinned")
            elif mount.kind == "cgroup2" and not _is_within(mount.root, arrival.cgroup):
                found.append(f"{mount.point}, by which it can leave what holds it")
    return found


def _is_within(root: str, cgroup: Cgroup) -> bool:
    """Whether a mount shows nothing but its own cgroup and what is below."""
    top = mounted()
    return cgroup.path.is_relative_to(top) and Path(f"{top}{root}").is_relative_to(cgroup.path)
