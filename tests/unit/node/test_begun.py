"""Whether a container's first process has begun, of real processes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from stockade.node.container import First

HERE = Path("/proc/self/ns/mnt").stat().st_ino


@pytest.mark.parametrize(("program", "begun"), [("/proc/self/exe", False), ("/bin/sleep", True)])
def test_what_is_still_its_maker_has_not_begun(program: str, begun: bool) -> None:
    """A runtime puts a copy of itself into the container's cgroup before that is anywhere else: what it executes has a name, and is no file
    of the container's.
    """
    executed = str(Path(program).resolve())
    words = [executed, "60"] if begun else [executed, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(words) as process:
        try:
            until = time.monotonic() + 30
            while Path(f"/proc/{process.pid}/exe").resolve() != Path(executed) and time.monotonic() < until:
                time.sleep(0.01)
            assert First(process.pid, HERE).begun is begun
        finally:
            process.kill()
