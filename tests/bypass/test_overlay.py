"""An allowed binary that lies on an overlay: written to, it is a copy in the upper layer, under the same path."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.box import KILLED, RUNS, Box
from kernel.conftest import box, cgroups, ear, kernel, pins, probed  # noqa: F401 (fixtures)
from stockade.kernel.abi import Verdict, Why


@pytest.fixture
def merged(place: Path) -> Iterator[Path]:
    """A directory of an overlay; its lower layer holds `tool`, a copy of true(1)."""
    top = place / "overlay"
    for name in ("lower", "upper", "work", "merged"):
        (top / name).mkdir(parents=True)
    shutil.copy("/bin/true", top / "lower/tool")
    options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
    mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, top / "merged"], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no overlay can be mounted on {place}: {mounted.stderr.strip()}")
    yield top / "merged"
    subprocess.run(["umount", "-l", top / "merged"], check=True)
    shutil.rmtree(top)


@pytest.mark.attack("overlay-copy-up")
@pytest.mark.parametrize("how", ["content", "mode", "rename"])
def test_a_copy_up_of_a_listed_binary_is_refused(box: Box, merged: Path, how: str) -> None:  # noqa: F811
    tool = merged / "tool"
    box.enrol(tool, RUNS)
    assert box.run(tool).status == 0  # the positive control: listed, and untouched
    if how == "content":
        with tool.open("r+b") as file:
            file.write(Path("/bin/false").read_bytes())
    elif how == "mode":
        tool.chmod(0o700)
    else:
        shutil.copy("/bin/false", merged / "other")
        (merged / "other").replace(tool)
    assert (merged.parent / "upper/tool").exists(), "nothing was copied up"
    ended = box.run(tool)
    assert ended.status == KILLED
    assert ended.said[-1][0] is Verdict.DENY and ended.said[-1][1] in (Why.CHANGED, Why.UNLISTED), ended
