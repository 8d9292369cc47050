"""OTLP logs over HTTP, in protobuf: records as the OpenTelemetry library's own, encoded by it. The only importer of opentelemetry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from stockade import __version__
from stockade.audit.formats.facts import container, pod
from stockade.audit.record import Json
from stockade.audit.sinks import secret
from stockade.audit.sinks.sink import Item, Outcome
from stockade.audit.sinks.web import Client, Post, WebSink
from stockade.settings.sinks import Sink as Rules

_RESOURCE = Resource({"service.name": "stockade", "service.version": __version__})
_SCOPE = InstrumentationScope("stockade.audit", __version__)


def sink(rules: Rules) -> WebSink:
    """Raises StockadeError for certificates that cannot be used."""
    url = rules.url.rstrip("/") + "/v1/logs" if urlsplit(rules.url).path in ("", "/") else rules.url

    def make(batch: Sequence[Item]) -> Post:
        headers = {"Content-Type": "application/x-protobuf"} | secret.headers(rules.headers)
        return Post(url, headers, encode_logs([_record(item) for item in batch]).SerializeToString(), _said)

    return WebSink(Client(rules.tls, rules.timeout), make)


def _record(item: Item) -> ReadableLogRecord:
    record, refused = item.record, item.record["decision"] == "deny"
    when = datetime.fromisoformat(item.time)
    nanoseconds = int(when.timestamp()) * 10**9 + when.microsecond * 1000
    said = LogRecord(
        timestamp=nanoseconds,
        observed_timestamp=nanoseconds,
        severity_text="WARN" if refused else "INFO",
        severity_number=SeverityNumber.WARN if refused else SeverityNumber.INFO,
        body=item.text.decode("ascii"),
        event_name=f"stockade.{record['action']}",
        attributes={
            "stockade.sandbox": record["sandbox"]["name"],
            "stockade.action": record["action"],
            "stockade.decision": record["decision"],
            "stockade.reason": record["reason"],
            "stockade.seq": record["seq"],
            "stockade.hash": record["hash"],
            **_placed(record),
        },
    )
    return ReadableLogRecord(said, _RESOURCE, _SCOPE)


def _placed(record: Json) -> dict[str, str]:
    """By the semantic conventions for Kubernetes and containers; of the record, since one agent tells of many pods."""
    found, made = pod(record), container(record)
    known: dict[str, str] = {}
    if found is not None:
        known = {"k8s.namespace.name": found.namespace, "k8s.pod.name": found.name, "k8s.pod.uid": found.uid, "k8s.node.name": found.node}
    if made is not None:
        known |= {"container.name": made.name, "container.id": made.identity, "container.image.name": made.image}
        if found is not None:
            known["k8s.container.name"] = made.name
    return {name: text for name, text in known.items() if text}


def _said(body: bytes, count: int) -> Outcome:
    """A receiver that took only some does not say which: the count is what can be known, so the newest stand for them."""
    try:
        answer = ExportLogsServiceResponse.FromString(body)
    except DecodeError:  # 200 is 200
        return Outcome()
    rejected = min(count, answer.partial_success.rejected_log_records)
    return Outcome(range(count - rejected, count), why=answer.partial_success.error_message)
