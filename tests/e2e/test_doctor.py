"""`stockade doctor` on this machine: as root, who runs sandboxes here, and as somebody who may try next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from framework.machine import STOCKADE

pytestmark = pytest.mark.root

NAMES = {"kernel", "python", "cgroup v2", "CA bundle", "seccomp filter", "mitmproxy", "network namespaces", "clock", "BTF", "ring buffer"}
NAMES |= {"classifier", "signing CA"}

# Imported first: its files may be below a directory of root's. Then a user of no rights asks.
UNPRIVILEGED = """
import os, sys
import stockade.cli.doctor, stockade.service.machine
from stockade.cli import main
os.setgroups([])
os.setresgid(61234, 61234, 61234)
os.setresuid(61234, 61234, 61234)
sys.exit(main(["doctor", "-o", "json"]))
"""

# A checkout in a directory of root's own, as mktemp makes one: what was not imported by then cannot be any more.
UNREADABLE = """
import sysconfig
import stockade.cli.doctor, stockade.service.machine
from stockade.cli import main
from stockade.sandbox import libc
import os
os.unshare(libc.CLONE_NEWNS)
libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
libc.mount("tmpfs", sysconfig.get_path("purelib"), "tmpfs", 0, "mode=700")
"""


def told(words: list[str], place: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, dict[str, Any]]]:
    said = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=120, check=False)
    return said, {finding["name"]: finding for finding in json.loads(said.stdout)}


def test_root_is_told_what_runs_here(place: Path) -> None:
    """The other tests run sandboxes on this machine: so nothing that they need is missing, and no probe has failed."""
    said, found = told([str(STOCKADE), "doctor", "-o", "json"], place)
    assert said.returncode == 0 and said.stderr == "", said
    assert found.keys() >= NAMES
    assert {finding["answer"] for finding in found.values() if finding["fatal"]} == {"available"}
    assert not [finding for finding in found.values() if "the probe failed" in finding["detail"]]
    assert all(finding["hint"] or not finding["fatal"] for finding in found.values() if finding["answer"] == "missing")
    runs, _, why = found["classifier"]["detail"].partition(": ")
    assert runs == "CUDAExecutionProvider" or (runs == "CPUExecutionProvider" and "CUDAExecutionProvider" in why), found["classifier"]
    text = subprocess.run([str(STOCKADE), "doctor"], cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert text.returncode == 0
    assert all(any(finding["answer"] in line and name in line for line in text.stdout.splitlines()) for name, finding in found.items())


def test_nothing_is_left_behind(place: Path) -> None:
    """It makes a cgroup, and a mount in a namespace of its own."""
    told([str(STOCKADE), "doctor", "-o", "json"], place)
    mounts = Path("/proc/self/mountinfo").read_text()
    assert "stockade-doctor-" not in mounts
    root = next(Path(line.split()[4]) for line in mounts.splitlines() if " - cgroup2 " in line)
    assert not [*root.glob("stockade-doctor-*"), *Path(tempfile.gettempdir()).glob("stockade-doctor-*")]


@pytest.mark.parametrize("before", ["", UNREADABLE], ids=["readable", "unreadable installation"])
def test_somebody_else_is_told_what_cannot_be_told(place: Path, before: str) -> None:
    said, found = told([sys.executable, "-c", before + UNPRIVILEGED], place)
    assert said.returncode == 2 and "Traceback" not in said.stderr, said
    for name in ("root", "cgroup v2", "network namespaces", "ring buffer", "program type of connect4"):
        assert found[name]["answer"] == "could not tell", found[name]
    for name in ("kernel", "CA bundle", "seccomp filter", "clock"):
        assert found[name]["answer"] == "available", found[name]
    assert "missing" not in {finding["answer"] for finding in found.values() if finding["fatal"]}
