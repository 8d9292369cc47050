#!/opt/stockade/bin/python
"""Runs a command on the node that it is to look after, from a container of its own that is not `privileged`.

    on-node COMMAND…

Two things differ from the node itself, and only these are changed: the first for the command, the second for its container.

- On cgroup v2 a runtime gives a container a cgroup namespace, in which every other cgroup is called /../../…: the node's is joined.
- A runtime mounts /proc/sys read-only. A sandbox that the agent makes has settings of its own network there (/proc/sys/net shows the
  network of whoever looks), so that one directory is made writable again. Nothing of the node's own is written.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096
_NET = b"/proc/sys/net"
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: bytes, target: bytes, flags: int) -> None:
    if _libc.mount(source, target, None, flags, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target.decode())


def join_cgroups() -> None:
    """In the first process's namespace our own cgroup has a name; in one of our own it is /."""
    own = next((line.removeprefix("0::") for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), "")
    if own == "/":
        with Path("/proc/1/ns/cgroup").open("rb") as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWCGROUP)


def open_network_settings() -> None:
    if os.statvfs(_NET).f_flag & os.ST_RDONLY:
        flags = os.statvfs(_NET).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)  # the same numbers as MS_…
        mount(_NET, _NET, _MS_BIND)
        mount(b"none", _NET, _MS_REMOUNT | _MS_BIND | flags)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for what, do in (
        ("join the node's cgroup namespace (CAP_SYS_ADMIN, hostPID)", join_cgroups),
        ("make /proc/sys/net writable (CAP_SYS_ADMIN, no AppArmor profile that forbids mounting)", open_network_settings),
    ):
        try:
            do()
        except OSError as error:
            sys.exit(f"on-node: cannot {what}: {error}")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
