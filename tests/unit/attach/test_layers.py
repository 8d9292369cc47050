"""What of a container's root is its own, told by what is mounted there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stockade.attach.layers import layered

SHOWN = """
import ctypes, os, sys
from stockade.sandbox import libc
place = sys.argv[1]
os.unshare(libc.CLONE_NEWNS)
libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
libc.mount("overlay", f"{place}/root", "overlay", 0, f"lowerdir={place}/a:{place}/b")
libc.bind(f"{place}/volume", f"{place}/root/volume", libc.MOUNT_ATTR_RDONLY)
os.chdir(f"{place}/root")
assert ctypes.CDLL(None).pivot_root(b".", b".") == 0
print("up", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
def test_a_read_only_volume_is_written_through_the_root_before(tmp_path: Path) -> None:
    """By whoever has it still. Not by one that arrives: its runtime takes it away before the container's first instruction."""
    for each in ("a/volume", "b", "root", "volume"):
        (tmp_path / each).mkdir(parents=True)
    (tmp_path / "a/tool").touch()
    (tmp_path / "volume/tool").touch()
    with subprocess.Popen([sys.executable, "-c", SHOWN, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        directory = os.open(f"/proc/{process.pid}/root", os.O_PATH | os.O_DIRECTORY)
        try:
            for arriving in (True, False):
                with layered(directory, process.pid, "/", arriving=arriving) as root:
                    os.close(root.open("/tool", os.O_RDONLY))
                    if arriving:
                        os.close(root.open("/volume/tool", os.O_RDONLY))
                        continue
                    with pytest.raises(PermissionError, match="written by the container"):
                        root.open("/volume/tool", os.O_RDONLY)
        finally:
            os.close(directory)
            process.communicate(b"\n")
