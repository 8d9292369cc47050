"""How long one target is mutated: a fixed number of examples in every run, or STOCKADE_FUZZ minutes by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MINUTES = float(os.environ.get("STOCKADE_FUZZ", "0"))


def mutate[T](inputs: st.SearchStrategy[T], check: Callable[[T], None], *, examples: int = 400) -> None:
    """Run `check` on drawn inputs; what fails is made small and shown. examples: of a bounded run, a few seconds on the slowest target."""

    @settings(max_examples=examples * (4 if MINUTES else 1), suppress_health_check=[*HealthCheck], database=None)
    @given(inputs)
    def run(value: T) -> None:
        check(value)

    end = time.monotonic() + MINUTES * 60
    run()
    while time.monotonic() < end:
        run()
