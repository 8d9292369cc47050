"""Other kernels, with BPF LSM and without: what the product's own probes find there, and the tests that run on it.

    make test-kernels                     everything, on each kernel; writes docs/kernels.md
    STOCKADE_VM=quick pytest tests/vm     one boot a kernel, side by side, and the tests whose outcome depends most on the kernel

Without STOCKADE_VM the quick ones run where a kernel and an emulator are at hand (deploy/setup.sh --tests fetches them where it can), and
are skipped elsewhere with what is missing.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest

from vm import kernels, results
from vm.kernels import ALL, QUICK, SERIES, WITH_LSM, WITHOUT_LSM, Guest, Outcome

CHOSEN = os.environ.get("STOCKADE_VM", "")
QUICK_BOOTS = [("6.1", WITH_LSM), ("6.12", WITHOUT_LSM)]
ALL_BOOTS = [(series, lsm) for series in SERIES for lsm in (WITH_LSM, WITHOUT_LSM)]
BOOTS = ALL_BOOTS if CHOSEN == "all" else QUICK_BOOTS

pytestmark = pytest.mark.skipif(CHOSEN == "guest", reason="this is the guest")


@pytest.fixture(scope="module")
def guests() -> Iterator[dict[tuple[str, str], Guest]]:
    """Those that were booted: the quick ones side by side, as soon as the first is asked for."""
    booted: dict[tuple[str, str], Guest] = {}
    yield booted
    for guest in booted.values():
        guest.stop()


@pytest.fixture(scope="module", params=BOOTS, ids=lambda boot: f"{boot[0]}-{'lsm' if boot[1] == WITH_LSM else 'tracepoint'}")
def outcome(request: pytest.FixtureRequest, guests: dict[tuple[str, str], Guest]) -> Outcome:
    if why := kernels.emulator_missing():
        (pytest.fail if CHOSEN else pytest.skip)(why)
    if why := kernels.missing(request.param[0]):
        pytest.skip(why)
    faulthandler.cancel_dump_traceback_later()  # it is only slow
    if CHOSEN == "all":
        series, lsm = request.param
        guests[request.param] = kernels.start(series, lsm=lsm, tests=ALL, seconds=4 * 3600)
        done = guests[request.param].finish()
        results.keep(done)
        return done
    for series, lsm in BOOTS:
        if (series, lsm) not in guests and not kernels.missing(series):
            guests[series, lsm] = kernels.start(series, lsm=lsm, tests=QUICK[lsm], seconds=1200, ahead=True)
    return guests[request.param].finish()


def test_the_kernel_has_all_that_stockade_needs(outcome: Outcome) -> None:
    lacking = [finding for finding in outcome.findings if finding["fatal"] and finding["answer"] != "available"]
    assert not lacking, lacking


def test_lsm_is_found_where_the_kernel_was_booted_with_it(outcome: Outcome) -> None:
    """Also without `bpf` in the list the programs load and attach: the probe must see that nobody calls them."""
    assert outcome.answer("exec refusal by BPF LSM") == ("available" if outcome.with_lsm else "missing")


def test_every_test_that_ran_there_passed(outcome: Outcome) -> None:
    assert outcome.over, f"not over, {len(outcome.tests)} were"
    failed = [test for test in outcome.tests if test.outcome == "failed"]
    assert not failed, "\n\n".join(f"{test.module}::{test.name}\n{test.why}" for test in failed)


def test_lsm_has_its_tests_where_it_is_and_what_else_was_skipped_is_little_and_says_why(outcome: Outcome) -> None:
    lsm = {test.outcome for test in outcome.tests if test.module.endswith("test_lsm")}
    assert lsm == {"passed" if outcome.with_lsm else "skipped"}
    skipped = [test for test in outcome.tests if test.outcome == "skipped" and not test.module.endswith("test_lsm")]
    assert all(test.why for test in skipped) and outcome.counts()["passed"] > 2 * len(skipped), skipped
