"""Debian's kernels under emulation, on this machine's own files: what deploy/setup.sh --kernels put into .vm, and how one is booted.

The guest's root is the host's, read-only over 9p below a layer of its own; it runs the checkout with the checkout's .venv. Only .vm is
shared for writing: there the guest finds the bytecode that an earlier boot compiled, and leaves its results.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm.ahead import CPUS

ROOT = Path(__file__).parents[2]
VM = (ROOT / ".vm").resolve()
GUEST, AHEAD = Path(__file__).parent / "guest.py", Path(__file__).parent / "ahead.py"
SERIES = ("6.1", "6.12")
_CACHED = (  # the host's root once more, for guest.py to mount with a cache
    "-fsdev local,id=cached,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=cached,mount_tag=cached"
)
ALL = (  # tests/kernel first: it compiles the programs, and what `stockade run` then finds ready it does not wait for
    *("tests/kernel", "tests/e2e/test_backends.py", "tests/bypass/test_execs.py"),
    *("tests/bypass/test_sockets.py", "tests/bypass/test_escapes.py"),
)
WITH_LSM, WITHOUT_LSM = "landlock,lockdown,yama,bpf", "landlock,lockdown,yama"
QUICK = {  # of what depends most on the kernel, as much as minutes allow: one `stockade run` takes two there
    WITH_LSM: ("tests/kernel/test_lsm.py", "tests/kernel/test_taint.py"),
    WITHOUT_LSM: ("tests/kernel/test_lsm.py", "tests/kernel/test_tasks.py"),
}


@dataclass(frozen=True, slots=True)
class Test:
    """One test as the guest's pytest tells of it.

    outcome: passed, failed or skipped; why: the reason, or the error; properties: what it noted by record_property.
    """

    module: str
    name: str
    outcome: str
    why: str
    properties: tuple[tuple[str, str], ...] = ()

    @property
    def attack(self) -> str:
        """The row of tests/bypass that it tries, or nothing."""
        return next((value for name, value in self.properties if name == "attack"), "")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one boot came to, or the same tests on the host. Seconds are of its own clock: from power-on to guest.py, and of its tests.

    over: none was left when its time was.
    """

    release: str
    lsm: str
    host: bool
    over: bool
    findings: list[dict[str, Any]]
    tests: list[Test]
    boot_seconds: float
    test_seconds: float

    @property
    def with_lsm(self) -> bool:
        """Whether the kernel was booted with `bpf` among its LSMs, whatever it does with it."""
        return "bpf" in self.lsm.split(",")

    def counts(self, module: str | None = None) -> Counter[str]:
        return Counter(test.outcome for test in self.tests if module in (None, test.module))

    def answer(self, name: str) -> str:
        """What `stockade doctor` says of one of its findings there."""
        return str(next(finding["answer"] for finding in self.findings if finding["name"] == name))


def emulator_missing() -> str | None:
    """Why no kernel can be booted here."""
    if not shutil.which("qemu-system-x86_64"):
        return "no qemu-system-x86_64 (deploy/setup.sh --kernels)"
    if not (VM / "virtme/bin/vng").exists():
        return "no virtme-ng in .vm (deploy/setup.sh --kernels)"
    return None if any(map(_image, SERIES)) else "no kernel in .vm (deploy/setup.sh --kernels)"


def missing(series: str) -> str | None:
    """Why this one cannot: Debian 13 has no 6.1."""
    return None if _image(series) else f"no kernel {series} in .vm (deploy/setup.sh --kernels fetches it where apt offers it)"


def _image(series: str) -> Path | None:
    return next((VM / series / "boot").glob("vmlinuz-*"), None)


def here(tests: Sequence[str]) -> Outcome:
    """The same on this machine's own kernel, for the table's last column."""
    results = VM / "results" / "host"
    results.mkdir(parents=True, exist_ok=True)
    subprocess.run([ROOT / ".venv/bin/python", GUEST, "--here", results, "7200", *tests], cwd=ROOT, check=True)
    return read(results)


class Guest:
    """A kernel that was booted and runs its tests."""

    def __init__(self, process: subprocess.Popen[bytes], results: Path, seconds: float) -> None:
        self._process, self._results, self._seconds = process, results, seconds

    def finish(self) -> Outcome:
        """Raises AssertionError with the end of the console when it does not come to its end: booting and ending have their time too."""
        timeout = self._seconds + 600
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"not over after {timeout:.0f} s:\n{self._console()}") from None
        if not (self._results / "summary.json").exists():
            raise AssertionError(f"the guest came to no end:\n{self._console()}")
        return read(self._results)

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def _console(self) -> str:
        return "\n".join((self._results / "console").read_text(errors="replace").splitlines()[-25:])


def start(series: str, *, lsm: str, tests: Sequence[str], seconds: float, ahead: bool = False) -> Guest:
    """Boot, to run these tests (arguments of pytest) as root and power off. lsm: the LSMs, as the kernel's command line takes them.

    seconds: of its own clock, which the tests have.
    ahead: bpf/ is compiled here and not there; where that fails, there after all.
    """
    image = _image(series)
    assert image is not None, missing(series)
    if ahead:
        subprocess.run([ROOT / ".venv/bin/python", "-W", "ignore", AHEAD, image, VM / "cache"], cwd=ROOT, check=False)
    results = VM / "results" / f"{series}-{'lsm' if 'bpf' in lsm else 'tracepoint'}"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    line = [VM / "virtme/bin/vng", "--run", image, "--disable-kvm", "--cpus", CPUS, "--memory", "3G", "--user", "root", "--verbose"]
    line += ["--append", f"lsm={lsm}", "--rwdir", str(VM), "--rwdir", f"/var/cache/stockade={VM / 'cache'}", f"--qemu-opts={_CACHED}", "--"]
    line += [ROOT / ".venv/bin/python", GUEST, results, seconds, *tests]
    environment = os.environ | {"PATH": f"{VM / 'virtme/bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    with (results / "console").open("w") as said:
        process = subprocess.Popen(
            [str(word) for word in line],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.nice(10) and None,
        )
    return Guest(process, results, seconds)


def read(results: Path) -> Outcome:
    """What guest.py left in a directory."""
    summary = json.loads((results / "summary.json").read_text())
    cases = ET.parse(results / "tests.xml").iter("testcase")
    return Outcome(**summary, tests=[_test(case) for case in cases if case.get("name")])  # one that was interrupted has only a time


def _test(case: ET.Element) -> Test:
    verdict = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
    outcome = "passed" if verdict is None else "skipped" if verdict.tag == "skipped" else "failed"
    why = "" if verdict is None else (verdict.text if outcome == "failed" else verdict.get("message")) or ""
    noted = tuple((each.get("name", ""), each.get("value", "")) for each in case.iter("property"))
    return Test(case.get("classname", "").removeprefix("tests."), case.get("name", ""), outcome, why, noted)
