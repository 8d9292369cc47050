"""A systemd of this machine as PID 1 of a namespace, with the units it needs and no other, and service.py beside it.

It is the machine's own program and kernel; its /etc, /run, /var/log and network are its own, and go with it. cgroups are the machine's,
since Stockade counts them from the root. So what is installed there is a copy of the package whose cgroups have other names: of two daemons
each would take the other's sandboxes for what was left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stockade.sandbox.cgroup import mounted
from vm.kernels import ROOT

SYSTEMD = "/lib/systemd/systemd"
UNITS = "*.target systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket"
WATCHDOG = "10"
_DRIVE = """\
[Unit]
After=basic.target systemd-journald.service
Requires=basic.target systemd-journald.service
[Service]
Type=oneshot
Environment=PYTHONDONTWRITEBYTECODE=1 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin STOCKADE_PATIENCE={patience}
ExecStart={words}
StandardOutput=append:{room}/said
StandardError=append:{room}/said
"""
_COMMAND = """\
#!{python}
import os, sys
os.environ["PYTHONPATH"] = {package!r}
sys.path.insert(0, {package!r})
from stockade.cli import main
sys.exit(main())
"""
_ENTER = """
room=$1 cgroup=$2
[ ! -e /sys/fs/cgroup ] || umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/$cgroup
echo 0 >/sys/fs/cgroup/$cgroup/cgroup.procs
mount -t tmpfs none "$room/own"
mkdir "$room/own/upper" "$room/own/work" "$room/own/units"
cd /lib/systemd/system && cp -L %(units)s "$room/own/units/" && cd /
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$room/own/upper,workdir=$room/own/work" /etc
rm -rf /etc/systemd/system/* /etc/stockade
mount --bind "$room/own/units" /lib/systemd/system
cp "$room/drive.service" /etc/systemd/system/
for each in $(awk '$2 ~ "^/run/" && $3 == "bpf" {print $2}' /proc/self/mounts); do umount $each; done
for each in /run /var/log /var/cache/stockade; do mkdir -p $each; mount -t tmpfs -o mode=0755 none $each; done
mkdir -p /run/lock
ip link set lo up
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=other %(systemd)s --unit=drive.service --log-target=journal --show-status=no
"""


def missing() -> str | None:
    """Why there can be none here."""
    if not Path(SYSTEMD).exists() or not shutil.which("systemctl"):
        return f"no {SYSTEMD}: apt-get install systemd"
    return None


def seen(room: Path, seconds: float) -> dict[str, Any]:
    """What service.py saw; the namespace and all in it are gone by then. Raises TimeoutError."""
    cgroup, names = f"systemd-tests-{os.getpid()}", f"tests-{os.getpid()}-stockade"
    _gone("systemd-tests-*", "tests-*-stockade*")  # of runs that were killed
    prefix, command, results = room / "opt", room / "bin/stockade", room / "results.json"
    for directory in (room / "own", prefix, command.parent):
        directory.mkdir()
    _installed(prefix, names)
    command.symlink_to(prefix / "current/bin/stockade")
    patience = os.environ.get("STOCKADE_PATIENCE", "1")
    words = ["/usr/bin/env", sys.executable, Path(__file__).with_name("service.py"), ROOT, prefix, command, results, WATCHDOG, names]
    (room / "drive.service").write_text(_DRIVE.format(room=room, patience=patience, words=" ".join(map(str, words))))
    line = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--net",
        "--ipc",
        "--uts",
        "--mount-proc",
    ]
    script = _ENTER % {"units": UNITS, "systemd": SYSTEMD}
    with (room / "systemd").open("wb") as log:
        words = [*line, "sh", "-euc", script, "sh", room, cgroup]
        process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = time.monotonic() + seconds * float(patience)
        while True:
            found: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
            if "over" in found or "failed" in found:
                return found
            if process.poll() is not None or time.monotonic() > until:
                said = "\n".join((room / name).read_text(errors="replace") for name in ("systemd", "said") if (room / name).exists())
                raise TimeoutError(f"seen: {', '.join(found)}; {said}")
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
        for _ in range(100):
            if _gone(cgroup, f"{names}*"):
                break
            time.sleep(0.1)


def _installed(prefix: Path, names: str) -> None:
    """As install.sh leaves it, with cgroups that are called `names`."""
    version = prefix / "0"
    for part in ("agent/stockade", "bpf", "policies"):
        shutil.copytree(ROOT / part, version / part, ignore=shutil.ignore_patterns("__pycache__"))
    package, (command, python) = version / "agent", (version / "bin" / name for name in ("stockade", "python"))
    _edited(package / "stockade/sandbox/cgroup.py", '= "stockade', f'= "{names}')
    shutil.copy(ROOT / "deploy/install.sh", prefix / "install.sh")
    _edited(prefix / "install.sh", '"$mounted"/stockade', f'"$mounted"/{names}')
    command.parent.mkdir()
    command.write_text(_COMMAND.format(python=sys.executable, package=str(package)))
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for file in (command, python):
        file.chmod(0o755)
    (prefix / "current").symlink_to(version)


def _edited(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 2, f"{file} names its cgroups in another way"
    file.write_text(text.replace(old, new))


def _gone(*patterns: str) -> bool:
    """Whether nothing is left of its cgroups: those that are empty are removed."""
    for pattern in patterns:
        for top in mounted().glob(pattern):
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
    return not any(any(mounted().glob(pattern)) for pattern in patterns)
