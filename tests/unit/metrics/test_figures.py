"""What a worker measures: added up, told in closed names, and refused in any other form; and the quota numbers of the kernel's header."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.kernel import abi
from stockade.metrics.activity import ROWS, Activity
from stockade.metrics.figures import BOUNDS, Asked, Classifier, Failure, Figures, Histogram, Kind, LocalModel, Stage, quantile
from stockade.metrics.ledger import Ledger
from stockade.proxy import metering
from unit.metrics.samples import http, written

MAPS = Path(__file__).parents[3] / "bpf/include/maps.h"


class Relay:
    sent = received = 0


def test_the_quotas_are_those_of_the_programs() -> None:
    text = MAPS.read_text()
    names = ("QUOTA_TASKS", "QUOTA_ORIGINS", "QUOTA_CONVERSATIONS")
    assert tuple(int(re.search(rf"#define {name} (\d+)", text)[1]) for name in names) == abi.QUOTAS  # type: ignore[index]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.sampled_from((0.5, 0.9, 0.99)))
def test_a_quantile_lies_in_the_bucket_that_holds_it(times: list[float], share: float) -> None:
    histogram = Histogram()
    for time in times:
        histogram.observe(time)
    exact, found = sorted(times)[math.ceil(share * len(times)) - 1], quantile(histogram.counts, share)
    ends = (0.0, *BOUNDS, math.inf)
    place = next(place for place, end in enumerate(ends[1:]) if exact <= end)
    assert found is not None
    assert ends[place] <= found <= min(ends[place + 1], BOUNDS[-1])
    assert [count for _, count in histogram.cumulative()][-1] == histogram.count == len(times)


def test_a_meter_tells_once_and_only_what_is_new() -> None:
    meter, told = metering.Meter(), []
    meter.stirred = lambda: told.append(1)
    for _ in range(1000):
        meter.observe(Stage.DECIDE, 0.001)
    assert told == [1]
    first = meter.take([Kind.INSPECTED], None)
    assert first.stages[Stage.DECIDE].count == 1000 and first.connections == {Kind.INSPECTED: 1, Kind.RELAYED: 0, Kind.INBOUND: 0}
    assert told == [1] and meter.take([], None).stages == {}


def test_octets_of_a_relay_are_counted_while_it_is_open_and_at_its_end() -> None:
    meter, relay, told = metering.Meter(), Relay(), []
    meter.stirred = lambda: told.append(1)
    meter.relay(relay)
    relay.sent, relay.received = 10, 100
    meter.stir()
    assert (found := meter.take([], None)).sent[Kind.RELAYED] == 10 and found.received[Kind.RELAYED] == 100
    assert told == [1, 1], "it looks again while a relay is open"
    relay.sent = 25
    meter.over(relay)
    assert meter.take([], None).sent[Kind.RELAYED] == 15
    assert told == [1, 1] and meter.take([], None).sent == {}


def test_what_is_told_comes_back_as_it_was() -> None:
    histogram = Histogram()
    histogram.observe(0.25)
    classifier = Classifier(3, 2, 1, 80, 1, True, "CUDAExecutionProvider", ("model",), {Failure.LOST: 1})
    figures = Figures(
        {Stage.FIRST_BYTE: histogram},
        {Kind.RELAYED: 5},
        {Kind.RELAYED: 6},
        {Kind.INBOUND: 1},
        classifier,
        {Asked.QUEUE: 2},
        LocalModel(False, 4, 1),
    )
    found = metering.decode(json.loads(json.dumps(metering.encode(figures))))
    assert found.stages[Stage.FIRST_BYTE].counts == histogram.counts and found.stages[Stage.FIRST_BYTE].total == 0.25
    assert (found.sent, found.received, found.connections, found.classifier) == (
        {Kind.RELAYED: 5},
        {Kind.RELAYED: 6},
        {Kind.INBOUND: 1},
        classifier,
    )
    assert (found.asked, found.local) == ({Asked.QUEUE: 2}, LocalModel(False, 4, 1))


GOOD: dict[str, Any] = metering.encode(Figures({Stage.DECIDE: Histogram()}, {}, {}, {}, Classifier(), {}, LocalModel()))


@pytest.mark.parametrize(
    "change",
    [
        {"stages": {"mine": [[0] * (len(BOUNDS) + 1), 0]}},
        {"stages": {"decide": [[0] * len(BOUNDS), 0]}},
        {"stages": {"decide": [[-1] * (len(BOUNDS) + 1), 0]}},
        {"stages": {"decide": [[1e99] * (len(BOUNDS) + 1), 0]}},
        {"stages": {"decide": [[0] * (len(BOUNDS) + 1), float("nan")]}},
        {"stages": []},
        {"sent": {"relayed": -1}},
        {"sent": {"api.example.com": 1}},
        {"connections": {"inspected": True}},
        {"classifier": {}},
        {"asked": {"mine": 1}},
        {"asked": {"queue": -1}},
        {"local": {"up": 1, "waiting": 0, "running": 0}},
        {"local": {"up": True, "waiting": -1, "running": 0}},
        {"classifier": GOOD["classifier"] | {"failed": {"mine": 1}}},
        {"classifier": GOOD["classifier"] | {"missing": ["x" * 65]}},
        {"classifier": GOOD["classifier"] | {"missing": ["x"] * 9}},
        {"classifier": GOOD["classifier"] | {"provider": "x" * 65}},
    ],
)
def test_what_no_worker_of_ours_says_is_refused(change: dict[str, Any]) -> None:
    metering.decode(GOOD)
    with pytest.raises(ValueError):
        metering.decode(GOOD | change)


def test_a_new_worker_counts_its_classifier_from_0_and_the_sum_goes_on() -> None:
    ledger = Ledger()
    for asked in (5, 9):
        ledger.figures(Figures(classifier=Classifier(asked=asked, up=True)))
    ledger.worker_gone()
    assert ledger.classifier is not None and not ledger.classifier.up
    ledger.figures(Figures(classifier=Classifier(asked=2, up=True)))
    assert ledger.classified["asked"] == 11


def test_calls_for_the_local_model_are_summed_and_its_state_is_the_newest() -> None:
    ledger = Ledger()
    for local in (LocalModel(True, 3, 1), LocalModel(False, 0, 0)):
        ledger.figures(Figures(asked={Asked.ANSWERED: 2}, local=local))
    assert (ledger.asked[Asked.ANSWERED], ledger.local) == (4, LocalModel(False, 0, 0))
    ledger.worker_gone()
    assert ledger.local == LocalModel()
    ledger.figures(Figures())  # of a policy that names none any more
    assert ledger.local is None


def test_the_table_of_activity_is_bounded_and_adds_up() -> None:
    activity = Activity()
    for number in range(3 * ROWS):
        activity.record(written(http(f"host-{number}.example.com"), number + 1), 1)
    rows = activity.rows()
    assert len(rows) == ROWS + 1 and rows[0]["destination"] == f"host-{3 * ROWS - 1}.example.com:443"
    assert sum(row["allowed"] for row in rows) == 3 * ROWS and rows[-1]["binary"] == "(others)"
