"""What is kept of the runs on each kernel, in tests/vm/results: one small file a kernel, which the pages are made of.

A module of tests that runs again replaces what was kept of it, and of it alone: every module carries its own date.
"""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm.kernels import Outcome, Test

KEPT = Path(__file__).parent / "results"
NOT_HELD, NOT_SHOWN = "NOT HELD", "NOT SHOWN"  # it got out; it did not, and the test failed all the same
GOT_OUT = "GOT OUT"  # in what tests/bypass/battery.py says then


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of tests/bypass on one kernel.

    met: by phase (user, root, writable) what it met. lacking: the error that says the kernel has no such thing: no control could get out.
    """

    met: dict[str, str]
    lacking: str | None = None


@dataclass(frozen=True, slots=True)
class Module:
    """One module of tests on one kernel.

    passed: how often, by name without parameters; failed: by name, with what was wrong; skipped: with the reasons.
    cut: its time was over before all of it was; the rest is not in it.
    """

    date: str
    passed: dict[str, int]
    failed: dict[str, str]
    skipped: dict[str, str]
    attacks: dict[str, Attack]
    cut: bool = False

    def outcome(self, test: str) -> str:
        """failed, skipped or passed, of a test by its name without parameters: the worst of them; absent when it was not run."""
        kinds = (("failed", self.failed), ("skipped", self.skipped), ("passed", self.passed))
        return next((kind for kind, names in kinds if test in map(_plain, names)), "absent")

    def ran(self) -> set[str]:
        """The tests that passed with every parameter, without them."""
        return {name for name in self.passed if self.outcome(name) == "passed"}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel. backend: lsm or tracepoint. findings: what `stockade doctor` found there, name → answer."""

    release: str
    backend: str
    host: bool
    findings: dict[str, str]
    modules: dict[str, Module]

    @property
    def name(self) -> str:
        series = ".".join(self.release.split(".")[:2])
        return f"{series} with BPF LSM" if self.backend == "lsm" else series

    def attacks(self) -> dict[str, Attack]:
        return {identifier: attack for module in self.modules.values() for identifier, attack in module.attacks.items()}


def kept() -> list[Kernel]:
    """Every kernel, oldest first, without LSM before with it."""
    return sorted(map(_read, KEPT.glob("*.json")), key=lambda kernel: (_version(kernel.release), kernel.backend == "lsm"))


def keep(outcome: Outcome) -> Path:
    """Kept beside what earlier runs on the same kernel showed of other modules."""
    backend = "lsm" if outcome.answer("exec refusal by BPF LSM") == "available" else "tracepoint"
    path = KEPT / f"{'.'.join(outcome.release.split('.')[:2])}-{backend}.json"
    before = json.loads(path.read_text())["modules"] if path.exists() else {}
    tests: dict[str, list[Test]] = defaultdict(list)
    for test in outcome.tests:
        tests[test.module].append(test)
    ran = {name: _digest(cases) for name, cases in tests.items()}
    if not outcome.over and outcome.tests:
        ran[outcome.tests[-1].module]["cut"] = True
    kernel = {
        "release": outcome.release,
        "backend": backend,
        "host": outcome.host,
        "findings": {finding["name"]: finding["answer"] for finding in outcome.findings},
        "modules": dict(sorted((before | ran).items())),
    }
    KEPT.mkdir(exist_ok=True)
    path.write_text(json.dumps(kernel, indent=1) + "\n")
    return path


def _digest(tests: list[Test]) -> dict[str, Any]:
    kinds = {kind: [test for test in tests if test.outcome == kind] for kind in ("passed", "failed", "skipped")}
    return {
        "date": datetime.date.today().isoformat(),
        "passed": Counter(_plain(test.name) for test in kinds["passed"]),
        "failed": {test.name: _last(test.why) for test in kinds["failed"]},
        "skipped": {test.name: test.why for test in kinds["skipped"]},
        "attacks": _attacks(tests),
    }


def _last(why: str) -> str:
    """The line of pytest that says what was wrong."""
    said = [line[1:].strip() for line in why.splitlines() if line.startswith("E ")]
    return (said or why.splitlines() or [""])[0][:200]


def _attacks(tests: list[Test]) -> dict[str, Any]:
    met: dict[str, dict[str, str]] = defaultdict(dict)
    lacking: dict[str, str] = {}
    for test in tests:
        for name, value in test.properties:
            if name == "lacking":
                lacking[test.attack] = value
            elif name == "verdict":
                phase, _, said = value.partition(": ")
                failed = NOT_HELD if GOT_OUT in _last(test.why) else NOT_SHOWN
                met[test.attack][phase] = said if test.outcome == "passed" else failed
    return {name: {"met": phases, "lacking": lacking.get(name)} for name, phases in sorted(met.items())}


def _read(path: Path) -> Kernel:
    kernel = json.loads(path.read_text())
    for module in kernel["modules"].values():
        module["attacks"] = {name: Attack(**attack) for name, attack in module["attacks"].items()}
    return Kernel(**kernel | {"modules": {name: Module(**module) for name, module in kernel["modules"].items()}})


def _plain(name: str) -> str:
    return name.partition("[")[0]


def _version(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:3]))
