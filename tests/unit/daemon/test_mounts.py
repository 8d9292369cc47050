"""Where the daemon may serve: what it pins must not go with its own mount namespace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.kernel.load import mounted_bpffs

pytestmark = pytest.mark.root

ASKS = "import sys; from pathlib import Path; from stockade.daemon.mounts import must_outlive; must_outlive(Path(sys.argv[1]))"
AS_A_UNIT = ("unshare", "--mount", "--propagation", "slave")  # as systemd makes one, for PrivateTmp= and its like
SECONDS = 60


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    bpffs = mounted_bpffs(tmp_path / "bpf")
    yield bpffs
    subprocess.run(["umount", bpffs], check=True)


def asked(bpffs: Path, *within: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*within, sys.executable, "-c", ASKS, bpffs], capture_output=True, text=True, timeout=SECONDS)


def test_a_bpffs_of_the_machine_outlives_the_daemon(outside: Path) -> None:
    for within in ((), AS_A_UNIT):
        found = asked(outside, *within)
        assert found.returncode == 0, found


def test_one_that_the_daemon_mounted_in_a_namespace_of_its_own_does_not(outside: Path, tmp_path: Path) -> None:
    mounts = 'mkdir -p "$0" && mount -t bpf bpf "$0" && exec "$@"'
    for path in (outside, tmp_path / "another"):  # also over one that would
        found = asked(path, *AS_A_UNIT, "sh", "-ec", mounts, str(path))
        assert found.returncode == 1 and "would end with it" in found.stderr, found


def test_what_cannot_be_known_is_refused(outside: Path) -> None:
    found = asked(outside, *AS_A_UNIT, "sh", "-ec", 'mount -t tmpfs none /proc/1 && exec "$@"', "sh")
    assert found.returncode == 1 and "cannot be known" in found.stderr, found


def test_the_daemon_does_not_serve_there(outside: Path) -> None:
    """Its run directory is another one here, so that no daemon of the machine's is met."""
    Path("/run/stockade").mkdir(parents=True, exist_ok=True)
    line = 'mount -t tmpfs none /run/stockade && exec "$@"'
    daemon = [Path(sys.executable).with_name("stockade"), "daemon"]
    found = subprocess.run([*AS_A_UNIT, "sh", "-ec", line, "sh", *daemon], capture_output=True, text=True, timeout=SECONDS)
    assert found.returncode == 2 and "[mount_namespace]" in found.stderr and "nsenter -t 1 -m mount" in found.stderr, found
