"""What a reload costs: from a loaded policy until kernel and worker decide by it, with 1,000 rules and with few.

`measure` is what `make bench` calls; the figures come from the agent's own records (`switch_us`, `read_us`).
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from framework.machine import Machine, wait_for
from framework.policy import Rule, http, whole
from stockade.service.control import ask, running
from stockade.service.settings import Settings

INSIDE = Path(__file__).parent / "inside"
PYTHON = "/usr/bin/python3"
BINARIES = ("python3", "curl", "git", "sh")


@dataclass(frozen=True, slots=True)
class Switch:
    """Milliseconds over `rounds` reloads of a policy of `rules` rules, in a sandbox that knows `names` names."""

    rules: int
    names: int
    rounds: int
    p50: float
    p99: float
    worst: float
    read_p50: float


def measure(machine: Machine, rules: int = 1000, names: int = 200, rounds: int = 100) -> Switch:
    """Reload one running sandbox again and again. Every other policy is another one."""
    room = machine.room({path.name: path.read_text() for path in INSIDE.glob("*.py")})
    (room / "work" / "names").write_text("\n".join(f"host-{number}.bench.test" for number in range(names)))
    name = f"bench-{os.getpid()}-{room.name}"
    texts = [_policy(rules, paths) for paths in (["/api/**", "/v1/*/items"], ["/api/**", "/v2/*/items"])]
    control = Settings().control
    with machine.start(f"{PYTHON} names.py", policy=texts[0], room=room, options=["--name", name]) as run:
        wait_for((room / "work" / "asked").exists, "the names", running=run, timeout=120)
        assert (room / "work" / "asked").read_text() == str(min(names, rules))
        wait_for(lambda: name in running(control), "the agent", running=run)
        answers = []
        for number in range(rounds):
            (room / "policy.new").write_text(texts[number % 2])
            (room / "policy.new").rename(room / "policy.yaml")
            answers.append(ask(control, name, "reload"))
        (room / "work" / "stop").touch()
        run.finish()
    switches = sorted(int(answer["switch_us"]) / 1000 for answer in answers)
    reads = [int(answer["read_us"]) / 1000 for answer in answers]
    return Switch(rules, names, rounds, statistics.median(switches), _percentile(switches, 0.99), switches[-1], statistics.median(reads))


def _policy(rules: int, paths: Sequence[str]) -> str:
    return whole(*(_rule(number, paths) for number in range(rules)), allow=[*BINARIES, "coreutils"])


def _rule(number: int, paths: Sequence[str]) -> Rule:
    binaries = [BINARIES[number % len(BINARIES)], "python3"] if number % len(BINARIES) else ["python3"]
    return http(binaries, f"host-{number}.bench.test", methods=["GET", "HEAD"], paths=paths, name=f"rule-{number}")


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def lines(machine: Machine) -> list[str]:
    """A line for each size."""
    found = [measure(machine, rules=10, names=10), measure(machine)]
    return [
        f"switch of {each.rules} rules, {each.names} names known: p50 {each.p50:.1f} ms, p99 {each.p99:.1f} ms, worst {each.worst:.1f} ms "
        f"({each.rounds} reloads; reading the files before it {each.read_p50:.0f} ms)"
        for each in found
    ]
