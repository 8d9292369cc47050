"""What is known of a container while its runtime still prepares it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.node import arriving
from stockade.node.container import First

IDENTITY = "ab" * 32
SPEC = {"annotations": {"io.kubernetes.cri.container-type": "sandbox"}, "process": {"args": ["/pause"], "env": ["PATH=/bin"]}}


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[First]:
    """Its parent, this one, works in a bundle, as a shim does; its own is to lie beside that."""
    (tmp_path / "shim").mkdir()
    monkeypatch.chdir(tmp_path / "shim")
    child = subprocess.Popen(["sleep", "60"])
    yield First(child.pid, os.stat("/proc/self/ns/mnt").st_ino)  # noqa: PTH116 (of the kernel's)
    child.kill()
    child.wait()


def test_a_bundle_that_cannot_be_read_at_once_is_waited_for(process: First, tmp_path: Path) -> None:
    """Else the container that holds a pod's namespaces is taken for any other, and the pod is never taken up."""

    def write() -> None:
        (tmp_path / IDENTITY).mkdir()
        (tmp_path / "new").write_text(json.dumps(SPEC))
        (tmp_path / "new").rename(tmp_path / IDENTITY / "config.json")

    later = threading.Timer(0.1, write)
    later.start()
    found = asyncio.run(arriving._bundle(IDENTITY, process))
    later.join()
    assert (found.holds, found.search, found.command) == (True, "/bin", ("/pause",))


def test_one_that_never_can_is_empty(process: First, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "_READABLE", 0.05)
    found = asyncio.run(arriving._bundle(IDENTITY, process))
    assert not found.holds and found.name == "" and found.capabilities is None
