"""One agent for one cgroup, by a file that is locked while it lives; and what dead agents left of containers that have ended.

What a dead agent left of a container that lives is not touched: it holds that container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from stockade.attach import trust
from stockade.sandbox.cgroup import Cgroup
from stockade.types import StockadeError


def pins_of(cgroup: int) -> str:
    """What the names of its directories of pins begin with."""
    return f"attached-{cgroup}-"


def left_on(bpffs: Path, cgroup: int) -> list[Path]:
    """The directories of pins that hold it."""
    return sorted(bpffs.glob(f"{pins_of(cgroup)}*"))


def order_of(directory: Path, cgroup: int) -> Path:
    """Where a daemon wrote down what it is to be held to, for the next one."""
    return directory / f"{cgroup}.order"


def ordered(directory: Path) -> dict[int, Path]:
    """What daemons wrote down, by the ids of the cgroups."""
    return {int(path.stem): path for path in directory.glob("*.order") if path.stem.isdecimal()}


def authority_of(directory: Path, cgroup: int) -> Path:
    """Where a daemon wrote down whose certificates it trusts."""
    return directory / f"{cgroup}.authority"


def bundles_of(directory: Path, cgroup: int) -> Path:
    """Where the trust bundles lie that are mounted in the container."""
    return directory / f"{cgroup}.trust"


@contextlib.contextmanager
def taken(directory: Path, bpffs: Path, cgroup: Cgroup, called: str) -> Iterator[int]:
    """Sweep first, then hold the place of this cgroup, whose id it gives. Raises StockadeError: it has an agent.

    What was written down of it goes with the place, unless something holds it on that this agent leaves, or that it found.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(directory, bpffs)
    number = cgroup.id
    path = directory / str(number)
    lock = _locked(path)
    if lock is None:
        raise StockadeError(f"{called} is governed already", hint="stockade status says by which agent", code="attached")
    try:
        os.pwrite(lock, os.fsencode(cgroup.path), 0)
        yield number
    finally:
        if not left_on(bpffs, number):
            _forget(directory, number)
        os.close(lock)


def sweep(directory: Path, bpffs: Path) -> None:
    """Take away what was left of cgroups that are no more."""
    for path in directory.iterdir():
        if not path.name.isdigit() or (lock := _locked(path)) is None:
            continue
        try:
            place = Path(os.fsdecode(os.pread(lock, 65536, 0)))
            if not place.name or _is(place, int(path.name)):
                continue
            for pins in left_on(bpffs, int(path.name)):
                shutil.rmtree(pins, ignore_errors=True)
            _forget(directory, int(path.name))
        finally:
            os.close(lock)


def _is(place: Path, number: int) -> bool:
    try:
        return place.stat().st_ino == number
    except OSError:
        return False


def forget_order(directory: Path, cgroup: int) -> None:
    for path in (order_of(directory, cgroup), authority_of(directory, cgroup), directory / f"{cgroup}.new"):
        path.unlink(missing_ok=True)


def _forget(directory: Path, cgroup: int) -> None:
    """The place last: whoever sweeps finds by it what else there is."""
    trust.remove(bundles_of(directory, cgroup))
    forget_order(directory, cgroup)
    (directory / str(cgroup)).unlink(missing_ok=True)


def left(directory: Path) -> list[Path]:
    """Cgroups that live and whose agent is dead. Takes nothing away."""
    found = []
    for path in sorted(directory.glob("*")):
        with contextlib.suppress(OSError):
            if not path.name.isdigit():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                place = Path(os.fsdecode(os.pread(lock, 65536, 0)))
                if place.name and place.stat().st_ino == int(path.name):
                    found.append(place)
            finally:
                os.close(lock)
    return found


def _locked(path: Path) -> int | None:
    """None while somebody else has it."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(lock).st_ino:  # else whoever had it has just left, and taken it along
            return lock
    os.close(lock)
    return None
