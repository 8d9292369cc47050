"""Whether tests may have a cluster: `make test-kubernetes` builds what it takes; `make test` uses it where it is there, given time."""

from __future__ import annotations

import os
import time

import pytest

from framework.kubernetes import agent_image
from framework.kubernetes.cluster import built

_COLLECTED = time.monotonic()  # a run begins with that
_LEAVES = 2400.0  # seconds of a whole run after which no cluster is started


def available() -> None:
    """Skips, with what would make it run. In `make test`, which has an hour, where everything is built and there is time left."""
    if os.geteuid() != 0:
        pytest.skip("a node needs root")
    wanted = os.environ.get("STOCKADE_KUBERNETES", "")
    if wanted not in ("", "0"):
        return
    if wanted == "0":
        pytest.skip("STOCKADE_KUBERNETES=0")
    if not built() or not agent_image.CACHE.is_dir():
        pytest.skip("make test-kubernetes runs them, and builds a Kubernetes before: minutes, once")
    if time.monotonic() - _COLLECTED > _LEAVES:
        pytest.skip("make test has an hour, and too much of it is over: make test-kubernetes runs them")
