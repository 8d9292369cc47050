"""What the processes of a container may do to get out of what they are held by: the capabilities that its runtime gives them, and the
runtimes that they may ask."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from stockade.attach.target import FATAL, PTRACE, PTRACE_WITHIN, Target, is_ours
from stockade.node.arriving import Arrival
from stockade.node.container import sockets_in


@dataclass(frozen=True, slots=True)
class Powers:
    """fatal: with which they could take away what holds them, or act through somebody who is not held, in words. raw: they may make packets
    of their own."""

    fatal: tuple[str, ...] = ()
    raw: bool = False


def powers(arrival: Arrival) -> Powers:
    """As its runtime was told, while its first process is still the runtime's own, which keeps everything; and as they are."""
    asks = [f"{each}, by which it can start what nobody holds" for each in sockets_in(arrival.bundle, arrival.process)]
    told = arrival.bundle.capabilities
    if told is not None and not arrival.process.begun:
        # It is in its namespaces already. What is written of them does not say as much: a path may lead to the machine's own.
        return Powers((*_fatal(told, ours=is_ours(arrival.process.pid, "pid")), *asks), "CAP_NET_RAW" in told)
    target = Target(arrival.cgroup, arrival.process.pid)
    return Powers((*target.fatal(), *asks), target.raw)


def _fatal(told: Collection[str], *, ours: bool) -> list[str]:
    """ours: it is in the machine's PID namespace."""
    trace = [PTRACE if ours else PTRACE_WITHIN] if "CAP_SYS_PTRACE" in told else []
    return [*(name for name in FATAL.values() if name in told), *trace]
