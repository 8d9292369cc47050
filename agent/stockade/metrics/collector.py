"""prometheus_client, and the only module that imports it: samples of the catalogue as metric families, and their text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from stockade.metrics.catalogue import METRICS, Metric, Type
from stockade.metrics.figures import Histogram
from stockade.metrics.samples import Sample


class Page:
    """The page of an agent, or of whoever has metrics of his own. Not thread-safe: one rendering at a time."""

    def __init__(self, metrics: Sequence[Metric] = METRICS) -> None:
        self._metrics = metrics
        self._registry = CollectorRegistry(auto_describe=False)
        self._families: list[Family] = []
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def collect(self) -> Iterable[Family]:
        return self._families

    def render(self, found: Iterable[Sample], accept: str) -> tuple[bytes, str]:
        """(text, its content type) in the format that a request's Accept asks for."""
        self._families = families(found, self._metrics)
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def families(found: Iterable[Sample], metrics: Sequence[Metric] = METRICS) -> list[Family]:
    """In the order of the catalogue. Raises KeyError for a sample that it does not have."""
    made = {metric.name: (metric, _family(metric, metric.labels)) for metric in metrics}
    for sample in found:
        metric, family = made[sample.metric]
        if len(sample.labels) != len(metric.labels):
            raise ValueError(f"{sample.metric} has the labels {metric.labels}")
        own = family if sample.about == "sandbox" else _family(metric, (sample.about, *metric.labels[1:]))
        if isinstance(own, HistogramMetricFamily):
            assert isinstance(sample.value, Histogram), sample.metric
            own.add_metric(sample.labels, sample.value.cumulative(), sample.value.total)
        else:
            assert not isinstance(sample.value, Histogram), sample.metric
            own.add_metric(sample.labels, sample.value)
        if own is not family:  # one family, whose series have one label or the other
            family.samples.extend(own.samples)
    return [family for _, family in made.values()]


def _family(metric: Metric, labels: Sequence[str]) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    match metric.type:
        case Type.COUNTER:
            return CounterMetricFamily(metric.name, metric.help, labels=labels)
        case Type.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.help, labels=labels)
        case Type.GAUGE | Type.INFO:  # an info is a gauge that is always 1
            return GaugeMetricFamily(metric.name, metric.help, labels=labels)
