"""What is exported: nothing but the catalogue, all of it, and no label that a sandbox chose."""

from __future__ import annotations

import os
import re
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from stockade.metrics.catalogue import BY_NAME, METRICS, VALUES, Type, reference
from stockade.metrics.collector import Page
from stockade.metrics.ledger import Ledger
from stockade.metrics.samples import samples
from stockade.types import Action, Binary, Outcome, Reason
from unit.metrics.samples import busy, http, lifecycle, snapshot, written

PAGE = Path(__file__).parents[3] / "docs/metrics.md"
HOSTILE = ("evil\n# HELP x", 'a"b', "a\\", "\x1b[2J", "x" * 5000, "ü", "{}", "\x00")


def rendered(*snapshots: object, accept: str = "") -> str:
    text, _ = Page().render(samples(snapshots, {"200": 3}), accept)  # type: ignore[arg-type]
    return text.decode()


def names(text: str) -> set[str]:
    """Of the metrics that have samples."""
    return {
        re.sub("_(bucket|count|sum)$", "", sample.name)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("stockade_")
    }


def test_the_reference_page_is_what_is_exported() -> None:
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        PAGE.write_text(reference(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_metric_of_the_catalogue_has_a_sample_and_no_other() -> None:
    assert names(rendered(snapshot(busy()))) == set(BY_NAME) - {"stockade_pods"}, "which test_namespaces sees"


def test_every_label_has_its_values_in_the_reference() -> None:
    for label in {label for metric in METRICS for label in metric.labels}:
        assert f"| `{label}` |" in reference()
    for metric in METRICS:
        assert metric.name.endswith("_total") is (metric.type is Type.COUNTER), metric.name


def test_both_formats_are_what_their_parsers_take() -> None:
    page = snapshot(busy())
    plain, open_ = rendered(page), rendered(page, accept="application/openmetrics-text; version=1.0.0")
    assert {family.name for family in openmetrics(open_)} >= {name.removesuffix("_total") for name in BY_NAME}
    assert "stockade_decisions_total{" in plain and open_.endswith("# EOF\n")


def test_what_a_sandbox_chooses_makes_no_series() -> None:
    """Ten thousand hosts, paths and binaries, some of them hostile: as many series as one of each."""
    one, many = Ledger(), Ledger()
    for ledger, times in ((one, 1), (many, 10_000)):
        for number in range(times):
            odd = HOSTILE[number % len(HOSTILE)] + str(number)
            for outcome in (Outcome.ALLOW, Outcome.DENY):
                ledger.record(written(http(odd, f"/{odd}", outcome=outcome, binary=Binary.named(odd)), number + 1))
    few, lots = rendered(snapshot(one)), rendered(snapshot(many))
    assert few.count("\n") == lots.count("\n")
    for text in ("evil", "\x1b", "xxxx"):
        assert text not in lots
    assert 'stockade_decisions_total{action="http",decision="deny",level="path",reason="no_rule",sandbox="box"} 10000.0' in lots


def test_hostile_names_of_a_policy_are_values_and_nothing_else() -> None:
    for odd in HOSTILE:
        [sample] = [
            sample
            for family in text_string_to_metric_families(rendered(snapshot(Ledger(), policy=odd)))
            for sample in family.samples
            if sample.name == "stockade_sandbox_info"
        ]
        assert sample.labels["policy"] == odd


def test_series_are_few_at_their_most() -> None:
    """All actions with all reasons would be many, but the enums are closed: what one sandbox can make is bounded, and known."""
    assert len(VALUES["action"]) * len(VALUES["decision"]) * len(VALUES["level"]) * len(VALUES["reason"]) < 50_000
    assert rendered(snapshot(busy())).count("\n") < 600


def test_series_of_a_sandbox_end_with_it() -> None:
    page, first, second = Page(), snapshot(busy(), "first"), snapshot(busy(), "second")
    both, _ = page.render(samples([first, second], {}), "")
    left, _ = page.render(samples([second], {}), "")
    assert b'sandbox="first"' in both and b'sandbox="second"' in both
    assert b'sandbox="first"' not in left and b'sandbox="second"' in left


def test_counts_are_of_attempts_not_of_records() -> None:
    ledger = Ledger()
    record = written(http(outcome=Outcome.DENY))
    ledger.record(record | {"detail": {"times": 41}})
    ledger.record(record)
    text = rendered(snapshot(ledger))
    assert 'reason="no_rule",sandbox="box"} 42.0' in text and 'stockade_audit_records_total{sandbox="box"} 2.0' in text


def test_a_reload_that_was_refused_is_told_until_one_is_not() -> None:
    ledger = Ledger()
    refused, switched = (
        written(lifecycle(reason)) | {"action": Action.POLICY.value} for reason in (Reason.RELOAD_REFUSED, Reason.RELOADED)
    )
    ledger.record(refused)
    assert 'stockade_policy_reload_failed{sandbox="box"} 1.0' in rendered(snapshot(ledger))
    ledger.record(switched)
    text = rendered(snapshot(ledger))
    assert 'stockade_policy_reload_failed{sandbox="box"} 0.0' in text
    assert 'result="refused",sandbox="box"} 1.0' in text and 'result="switched",sandbox="box"} 1.0' in text
