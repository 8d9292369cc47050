"""What it takes to start a sandbox, and to start programs in one, beside bubblewrap with the same namespaces.

The agent's own start is not in it: an agent that is there already launches from a Plan. Both ways end with the end of `true`. Where
pids are limited by a v1 hierarchy, joining its cgroup takes the kernel 10 ms: there bubblewrap joins it as well, and a row shows neither.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from stockade.policy.families import load_families
from stockade.policy.load import load
from stockade.proxy import Authority
from stockade.sandbox import libc, loopback
from stockade.sandbox.launch import Launcher
from stockade.sandbox.limits import Limits, Wanted
from stockade.sandbox.plan import Plan
from stockade.sandbox.roster import Resolver
from stockade.service import blueprint
from stockade.service.settings import Settings
from stockade.service.slots import Slot

ROUNDS = 25


def bubblewrap(*command: str) -> list[str]:
    """The command in the namespaces of a sandbox, with its view of the system."""
    links = [name for name in ("bin", "sbin", "lib", "lib64") if Path(f"/{name}").is_symlink()]
    return [
        *("bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--hostname", "bench"),
        *("--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
        *(word for name in links for word in ("--symlink", f"usr/{name}", f"/{name}")),
        *command,
    ]


def milliseconds(policy: Path, workdir: Path) -> list[tuple[str, float, float]]:
    """(what, bubblewrap, Stockade), medians: taken in turn, so that a busy machine is busy for both."""
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    settings = Settings()
    loopback.messages(settings.network)  # an agent that is there already has them
    slot = Slot.take(settings, settings.run / "none")
    try:
        plan = _plan(policy, workdir, slot, settings)
        ways = [("sandbox of `true`", dataclasses.replace(plan, joins=()))]
        if plan.joins:
            ways.append(("sandbox of `true`, v1 limit on pids", plan))
        return [(what, *_both(way, settings)) for what, way in ways]
    finally:
        slot.release()


def _both(plan: Plan, settings: Settings) -> tuple[float, float]:
    times = [(_bubblewrap(plan.joins), _stockade(plan, settings)) for _ in range(ROUNDS)]
    return statistics.median(time for time, _ in times), statistics.median(time for _, time in times)


def _plan(policy_file: Path, workdir: Path, slot: Slot, settings: Settings) -> Plan:
    policy = load([policy_file])
    return blueprint.draw(
        name="bench",
        command=("true",),
        workdir=workdir,
        binds=(),
        policy=policy,
        roster=Resolver(policy, load_families()).roster("true"),
        user=slot.user,
        cgroup=slot.sandbox,
        limits=Limits.impose(slot.sandbox, Wanted(), best_effort=False),
        network=settings.network,
        authority_pem=Authority.create("bench").certificate_pem,
        around=blueprint.Surroundings.here(),
    )


def _stockade(plan: Plan, settings: Settings) -> float:
    start = time.perf_counter()
    launcher = Launcher.fork()
    sockets = launcher.open_network(settings.network)
    os.waitpid(launcher.start(plan), 0)
    taken = time.perf_counter() - start
    for sock in sockets:
        sock.close()
    return taken * 1000


def _bubblewrap(joins: Sequence[str]) -> float:
    joining = [
        *("sh", "-c", 'for procs; do [ "$procs" != -- ] || break; echo 0 >$procs; shift; done; shift; exec "$@"', "sh", *joins, "--")
    ]
    start = time.perf_counter()
    subprocess.run([*(joining if joins else ()), *bubblewrap("true")], check=True)
    return (time.perf_counter() - start) * 1000
