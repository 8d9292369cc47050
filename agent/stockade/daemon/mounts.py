"""Whether what the daemon pins is still there when it is not: its bpffs must be a mount of the machine's, seen from process 1.

In a mount namespace of the daemon's own (unshare, or a unit with ProtectSystem=, PrivateTmp= and their like) a file system that it mounted
goes with its last process, and with it every pinned program: exec rules would be off until the next daemon, which would find nothing that
holds its sandboxes, and kill them. In a container process 1 is the container's, with which its sandboxes end anyway.
"""

from __future__ import annotations

import os
from pathlib import Path

from stockade.types import StockadeError

_MOUNTINFO = Path("/proc/1/mountinfo")


def must_outlive(bpffs: Path) -> None:
    """Raises StockadeError when this file system would go with the daemon, or when that cannot be known."""
    try:
        if _device(bpffs) in _mounted():
            return
    except OSError as error:
        said, hint = f"whether {bpffs} outlives the daemon cannot be known: {error}", f"it reads {_MOUNTINFO}"
        raise StockadeError(said, hint=hint, code="mount_namespace") from None
    raise StockadeError(
        f"{bpffs} is mounted in a mount namespace of the daemon's own: what holds the sandboxes would end with it",
        hint="start it in the machine's own, without ProtectSystem=, PrivateTmp= or their like in a drop-in; or mount it there first: "
        f"nsenter -t 1 -m mount -t bpf -o mode=0700 bpf {bpffs}",
        code="mount_namespace",
    )


def _device(path: Path) -> str:
    number = path.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def _mounted() -> set[str]:
    """Devices of what process 1 has mounted: every bpffs is one of its own (mountinfo, proc(5))."""
    return {line.split(" ", 3)[2] for line in _MOUNTINFO.read_text().splitlines()}
