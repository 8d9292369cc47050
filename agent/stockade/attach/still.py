"""A cgroup that stands still for a moment, so that what is asked about it twice is answered of the same thing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from stockade.sandbox.cgroup import Cgroup
from stockade.types import StockadeError

_SECONDS = 10.0  # a process in the middle of a long system call stops when that ends


@contextlib.contextmanager
def still(cgroup: Cgroup) -> Iterator[None]:
    """Nobody in it runs meanwhile. One that its runtime has paused stays so. Raises StockadeError when somebody does not stop."""
    freeze = cgroup.path / "cgroup.freeze"
    try:
        paused = freeze.read_text().strip() == "1"
        if not paused:
            freeze.write_text("1")
    except OSError as error:
        raise StockadeError(f"{cgroup.path} cannot be stopped for a moment: {error.strerror}", code="freeze") from None
    try:
        _wait(cgroup)
        yield
    finally:
        if not paused:
            with contextlib.suppress(OSError):
                freeze.write_text("0")


def _wait(cgroup: Cgroup) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        try:
            if "frozen 1" in (cgroup.path / "cgroup.events").read_text():
                return
        except OSError:
            raise StockadeError(f"{cgroup.path} is gone", code="no_cgroup") from None
        time.sleep(0.002)
    raise StockadeError(f"a process in {cgroup.path} does not stop", hint="try again", code="freeze")
