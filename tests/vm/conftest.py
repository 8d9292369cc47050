"""The box of debian13.py, booted once for all who ask what happened in it."""

from __future__ import annotations

import faulthandler
import os
import subprocess

import pytest

from vm import debian13
from vm.debian13 import Step


@pytest.fixture(scope="session")
def steps() -> dict[str, Step]:
    if os.environ.get("STOCKADE_VM", "") not in ("all", "vagrant"):
        pytest.skip("a whole Debian 13 is booted by `make test-kernels`, or with STOCKADE_VM=vagrant")
    if why := debian13.missing():
        pytest.fail(why)
    faulthandler.cancel_dump_traceback_later()  # it is only slow
    try:
        return debian13.boot(debian13.disk(), 5400)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the box did not come to its end:\n{debian13.console()}")
