"""Pods have no series of their own: their namespace has, it counts on when they end, and one in trouble is not lost in the sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from stockade.metrics.catalogue import BY_NAME
from stockade.metrics.collector import Page
from stockade.metrics.ledger import Ledger
from stockade.metrics.namespaces import LEFT_OUT, MOST, Namespaces
from stockade.metrics.samples import samples
from stockade.metrics.snapshot import Fill, Renewing, Snapshot
from stockade.types import Outcome, Sandbox
from unit.metrics.samples import busy, http, snapshot, written


def pod(namespaces: Namespaces, namespace: str, name: str, ledger: Ledger | None = None, **more: object) -> Snapshot:
    ledger = ledger or busy()
    namespaces.begun(namespace, ledger)
    return dataclasses.replace(snapshot(ledger, name), namespace=namespace, **more)  # type: ignore[arg-type]


def series(snapshots: Sequence[Snapshot], namespaces: Namespaces, name: str = "", **labels: str) -> dict[tuple[str, ...], float]:
    text, _ = Page().render(samples(snapshots, {}, namespaces), "")
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if (not name or sample.name == name) and labels.items() <= sample.labels.items()
    }


def only(found: dict[tuple[str, ...], float]) -> float:
    [value] = found.values()
    return value


def test_a_sandbox_is_a_pods_where_its_labels_say_so() -> None:
    assert Sandbox("i", "n", "p", 1, {"namespace": "team", "pod_uid": "u"}).namespace == "team"
    assert Sandbox("i", "n", "p", 1, {"namespace": "team"}).namespace == "", "a label that somebody chose"


def test_two_pods_of_a_namespace_are_one_series() -> None:
    namespaces = Namespaces()
    both = [pod(namespaces, "team", "one"), pod(namespaces, "team", "two"), pod(namespaces, "other", "three"), snapshot(busy(), "box")]
    decisions = {"action": "http", "decision": "allow"}
    assert only(series(both, namespaces, "stockade_decisions_total", namespace="team", **decisions)) == 2
    assert only(series(both, namespaces, "stockade_decisions_total", namespace="other", **decisions)) == 1
    assert only(series(both, namespaces, "stockade_decisions_total", sandbox="box", **decisions)) == 1
    assert only(series(both, namespaces, "stockade_pods", namespace="team")) == 2
    assert only(series(both, namespaces, "stockade_latency_seconds_count", namespace="team", stage="decide")) == 2
    everything = series(both, namespaces)
    assert not any(label.endswith(("=one", "=two", "=three")) for labels in everything for label in labels)
    assert not any({"sandbox", "namespace"} <= {label.partition("=")[0] for label in labels} for labels in everything)


def test_every_metric_of_a_sandbox_is_one_of_a_namespace_but_for_those_left_out() -> None:
    namespaces = Namespaces()
    found = [pod(namespaces, "team", "one")]
    names = {
        key[0].removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for key in series(found, namespaces, namespace="team")
    }
    assert names == {name for name, metric in BY_NAME.items() if metric.labels[:1] in (("sandbox",), ("namespace",))} - {
        f"stockade_{name}" for name in LEFT_OUT
    }


def test_what_a_pod_counted_stays_when_it_ends_and_a_short_one_is_not_missed() -> None:
    namespaces, ledger = Namespaces(), Ledger()
    ledger.record(written(http(outcome=Outcome.DENY)))
    pod(namespaces, "team", "short", ledger)
    namespaces.ended(ledger)
    refused = {"name": "stockade_decisions_total", "decision": "deny", "namespace": "team"}
    assert only(series([], namespaces, **refused)) == 1
    assert only(series([], namespaces, "stockade_pods", namespace="team")) == 0
    again = Ledger()
    again.record(written(http(outcome=Outcome.DENY)))
    after = [pod(namespaces, "team", "next", again)]
    assert only(series(after, namespaces, **refused)) == only(series(after, namespaces, **refused)) == 2, "and asking changes nothing"
    namespaces.ended(again)
    assert only(series(after, namespaces, **refused)) == 2, "also while it is still there for others"
    namespaces.ended(Ledger())  # of a sandbox that is no pod


def test_histograms_of_pods_that_ended_go_on_too() -> None:
    namespaces, first = Namespaces(), busy()
    pod(namespaces, "team", "one", first)
    count = first.stages[next(iter(first.stages))].count
    namespaces.ended(first)
    second = [pod(namespaces, "team", "two")]
    for _ in range(2):
        assert only(series(second, namespaces, "stockade_latency_seconds_count", namespace="team", stage="exec")) == 2 * count


def test_one_pod_in_trouble_is_seen_among_others() -> None:
    namespaces = Namespaces()
    well = pod(namespaces, "team", "well", certificates={"authority": 2e9}, fill={"tasks": Fill(1, 100)})
    ill = pod(
        namespaces, "team", "ill", workers=0, certificates={"authority": 1e9}, fill={"tasks": Fill(99, 100)}, renewal=Renewing(failing=True)
    )
    for found in ([well, ill], [ill, well]):
        assert only(series(found, namespaces, "stockade_workers", namespace="team")) == 0
        assert only(series(found, namespaces, "stockade_certificate_expiry_time_seconds", namespace="team")) == 1e9
        assert only(series(found, namespaces, "stockade_map_entries", namespace="team")) == 99
        assert only(series(found, namespaces, "stockade_map_capacity", namespace="team")) == 100
        assert only(series(found, namespaces, "stockade_authority_renewal_failing", namespace="team")) == 1
        assert only(series(found, namespaces, "stockade_processes", namespace="team")) == 4
        assert only(series(found, namespaces, "stockade_helper_failures_total", namespace="team", helper="quota")) == 1, "the agent's own"


def test_a_thousand_namespaces_that_come_and_go_leave_a_bounded_number() -> None:
    namespaces, stays = Namespaces(), busy()
    pod(namespaces, "stays", "s", stays)
    for number in range(1000):
        ledger = Ledger()
        pod(namespaces, f"build-{number}", "b", ledger)
        namespaces.ended(ledger)
    found = series([], namespaces, "stockade_pods")
    assert len(found) == MOST and ("stockade_pods", "namespace=stays") in found and ("stockade_pods", "namespace=build-999") in found


def test_more_namespaces_with_pods_than_are_kept_all_count() -> None:
    namespaces = Namespaces(most=2)
    found = [pod(namespaces, f"n{number}", f"p{number}") for number in range(5)]
    assert len(series(found, namespaces, "stockade_pods")) == 5


def test_a_hundred_pods_of_a_node_are_as_many_series_as_one() -> None:
    few, many = Namespaces(), Namespaces()
    one = [pod(few, "team", "p")]
    hundred = [pod(many, "team", f"p{number}") for number in range(100)]
    assert len(series(one, few)) == len(series(hundred, many)) < 600


def test_both_formats_are_what_their_parsers_take() -> None:
    namespaces = Namespaces()
    found = [pod(namespaces, "team", "one"), snapshot(busy(), "box")]
    text, _ = Page().render(samples(found, {}, namespaces), "application/openmetrics-text; version=1.0.0")
    assert {family.name for family in openmetrics(text.decode())} >= {name.removesuffix("_total") for name in BY_NAME}
