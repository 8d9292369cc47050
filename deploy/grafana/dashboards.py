"""The dashboards as code. `python deploy/grafana/dashboards.py` writes dashboards/*.json; a test holds them together and runs every query.

Only the standard library, and only what every Grafana from 9 on draws: stat, timeseries, table.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "stockade"}  # provisioning/datasources/stockade.yaml
Json = dict[str, Any]
Query = tuple[str, str]  # expression, legend

LINK = {
    "type": "dashboards",
    "tags": ["stockade"],
    "title": "Stockade",
    "tooltip": "",
    "icon": "external link",
    "asDropdown": True,
    "includeVars": False,
    "keepTime": True,
    "targetBlank": False,
}
ONE = '{sandbox="$sandbox"}'
PODS = '{namespace="$namespace"}'


def panel(kind: str, title: str, queries: Sequence[Query], *, unit: str = "short", width: int = 12, help: str = "", **options: Any) -> Json:
    instant = kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend,
            "instant": instant,
            "range": not instant,
            **({"format": "table"} if kind == "table" else {}),
        }
        for place, (expression, legend) in enumerate(queries)
    ]
    custom: Json = {}
    if kind == "timeseries":
        custom = {"fillOpacity": 15, "showPoints": "never", "stacking": {"mode": options.pop("stack", "none")}}
    elif kind == "table":
        custom = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}
    steps = [{"color": color, "value": value} for color, value in options.pop("steps", [("text", None)])]
    defaults = {"unit": unit, "custom": custom, "thresholds": {"mode": "absolute", "steps": steps}}
    drawn = {
        "stat": {"colorMode": "value", "reduceOptions": {"calcs": ["lastNotNull"]}},
        "timeseries": {"tooltip": {"mode": "multi", "sort": "desc"}},
    }
    return {
        "type": kind,
        "title": title,
        "description": help,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": drawn.get(kind, {}),
        "gridPos": {"w": width, "h": 4 if kind == "stat" else 8},
    }


def stat(title: str, expression: str, **options: Any) -> Json:
    return panel("stat", title, [(expression, "")], width=4, **options)


def laid_out(panels: Sequence[Json]) -> Iterator[Json]:
    """From left to right, as they come, in 24 columns."""
    x = y = height = 0
    for number, each in zip(itertools.count(1), panels, strict=False):
        place = each["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        yield each | {"id": number, "gridPos": place | {"x": x, "y": y}}
        x, height = x + place["w"], max(height, place["h"])


def dashboard(uid: str, title: str, panels: Sequence[Json], variable: str | None = None, name: str = "sandbox") -> Json:
    """variable: the query of the values of `name`, which the panels ask for."""
    variables = []
    if variable is not None:
        variables = [
            {
                "name": name,
                "type": "query",
                "label": name.capitalize(),
                "datasource": SOURCE,
                "query": {"query": variable, "refId": name},
                "refresh": 2,
                "sort": 1,
            }
        ]
    return {
        "uid": uid,
        "title": title,
        "tags": ["stockade"],
        "schemaVersion": 38,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "links": [LINK],
        "panels": list(laid_out(panels)),
    }


GOOD_AT_0 = [("green", None), ("red", 1)]
BAD_AT_0 = [("red", None), ("green", 1)]

OVERVIEW = dashboard(
    "stockade-overview",
    "Stockade: overview",
    [
        stat(
            "Sandboxes and pods",
            '(count(stockade_sandbox_info{sandbox!=""}) or vector(0)) + (sum(stockade_pods) or vector(0))',
            help="A pod is one, whatever it has of containers.",
        ),
        stat("Agents that do not answer", '(count(up{job="stockade"} == 0) or vector(0))', steps=GOOD_AT_0),
        stat("Allowed", 'sum(sandbox:stockade_decisions:rate5m{decision="allow"})', unit="reqps"),
        stat("Refused", '(sum(sandbox:stockade_decisions:rate5m{decision="deny"}) or vector(0))', unit="reqps"),
        stat("Trails that cannot be written", "sum(max by (job, instance) (stockade_audit_broken))", steps=GOOD_AT_0),
        stat(
            "Events without a record, 24 h",
            "sum(max by (job, instance, cause) (increase(stockade_events_lost_total[24h])))",
            steps=GOOD_AT_0,
        ),
        panel(
            "timeseries",
            "Decisions by sandbox, of pods by namespace",
            [("sum by (namespace, sandbox, decision) (sandbox:stockade_decisions:rate5m)", "{{namespace}}{{sandbox}} {{decision}}")],
            unit="reqps",
        ),
        panel(
            "timeseries",
            "Refusals by reason",
            [("sum by (reason) (sandbox:stockade_refusals:rate5m)", "{{reason}}")],
            unit="reqps",
            stack="normal",
        ),
        panel(
            "timeseries",
            "Latency, 99 % below",
            [("max by (stage) (sandbox:stockade_latency_seconds:p99_5m)", "{{stage}}")],
            unit="s",
        ),
        panel("timeseries", "Octets", [("sum by (direction) (sandbox:stockade_bytes:rate5m)", "{{direction}}")], unit="Bps"),
        panel(
            "timeseries",
            "From event to record, 99 % below",
            [("max by (namespace, sandbox) (sandbox:stockade_audit_lag_seconds:p99_5m)", "{{namespace}}{{sandbox}}")],
            unit="s",
        ),
        panel(
            "timeseries",
            "Fullest maps",
            [("topk(5, sandbox:stockade_map_fill:ratio)", "{{namespace}}{{sandbox}} {{map}}")],
            unit="percentunit",
        ),
        panel(
            "table",
            "Sandboxes",
            [("max by (namespace, sandbox, policy, mode, instance) (stockade_sandbox_info)", "")],
            help="Policy in force and mode. With `observe` nothing is refused.",
        ),
        panel("table", "Alerts", [('max by (alertname, namespace, sandbox, severity) (ALERTS{alertstate="firing"}) or vector(0)', "")]),
        panel(
            "timeseries",
            "Agents: CPU",
            [('rate(process_cpu_seconds_total{job="stockade"}[5m])', "{{instance}}")],
            unit="percentunit",
        ),
        panel("timeseries", "Agents: memory", [('process_resident_memory_bytes{job="stockade"}', "{{instance}}")], unit="bytes"),
    ],
)

SANDBOX = dashboard(
    "stockade-sandbox",
    "Stockade: one sandbox",
    [
        stat("Generation", f"max(stockade_policy_generation{ONE})"),
        stat("Processes", f"sum(stockade_processes{ONE})"),
        stat("Workers", f"sum(stockade_workers{ONE})", steps=BAD_AT_0),
        stat("Open connections", f"sum(stockade_connections{ONE})"),
        stat("Approvals that wait", f"sum(stockade_approvals_pending{ONE})"),
        stat("Let pass by observing", f"(sum(stockade_unenforced_total{ONE}) or vector(0))", steps=GOOD_AT_0),
        panel(
            "timeseries",
            "Decisions by action",
            [(f"sum by (action, decision) (sandbox:stockade_decisions:rate5m{ONE})", "{{action}} {{decision}}")],
            unit="reqps",
        ),
        panel(
            "timeseries",
            "Refusals by reason",
            [(f"sum by (reason) (sandbox:stockade_refusals:rate5m{ONE})", "{{reason}}")],
            unit="reqps",
            stack="normal",
        ),
        panel(
            "timeseries",
            "Latency, half below",
            [(f"max by (stage) (sandbox:stockade_latency_seconds:p50_5m{ONE})", "{{stage}}")],
            unit="s",
        ),
        panel(
            "timeseries",
            "Latency, 99 % below",
            [(f"max by (stage) (sandbox:stockade_latency_seconds:p99_5m{ONE})", "{{stage}}")],
            unit="s",
        ),
        panel("timeseries", "Open connections", [(f"sum by (kind) (stockade_connections{ONE})", "{{kind}}")]),
        panel("timeseries", "Octets", [(f"sum by (direction) (sandbox:stockade_bytes:rate5m{ONE})", "{{direction}}")], unit="Bps"),
        panel("timeseries", "How full", [(f"sandbox:stockade_map_fill:ratio{ONE}", "{{map}}")], unit="percentunit"),
        panel(
            "timeseries",
            "What failed",
            [
                (f"sum by (helper) (increase(stockade_helper_failures_total{ONE}[5m]))", "helper {{helper}}"),
                (f"sum by (cause) (increase(stockade_events_lost_total{ONE}[5m]))", "events lost: {{cause}}"),
                (f"increase(stockade_workers_lost_total{ONE}[5m])", "workers lost"),
            ],
        ),
        panel("timeseries", "Reloads", [(f"sum by (result) (increase(stockade_policy_reloads_total{ONE}[5m]))", "{{result}}")]),
        panel(
            "timeseries",
            "The trail",
            [
                (f"rate(stockade_audit_records_total{ONE}[5m])", "records"),
                (f"sum by (sink) (rate(stockade_audit_sink_lost_total{ONE}[5m])) or vector(0)", "given up {{sink}}"),
            ],
            unit="reqps",
        ),
        panel(
            "timeseries",
            "Days until a certificate ends",
            [(f"(stockade_certificate_expiry_time_seconds{ONE} - time()) / 86400", "{{certificate}}")],
        ),
    ],
    variable='label_values(stockade_sandbox_info{sandbox!=""}, sandbox)',
)

NAMESPACE = dashboard(
    "stockade-namespace",
    "Stockade: pods of a namespace",
    [
        stat("Pods", f"sum(stockade_pods{PODS})"),
        stat("Nodes", f"count(stockade_pods{PODS} > 0) or vector(0)"),
        stat("Processes", f"(sum(stockade_processes{PODS}) or vector(0))"),
        stat("Open connections", f"(sum(stockade_connections{PODS}) or vector(0))"),
        stat("Approvals that wait", f"(sum(stockade_approvals_pending{PODS}) or vector(0))"),
        stat("Let pass by observing", f"(sum(stockade_unenforced_total{PODS}) or vector(0))", steps=GOOD_AT_0),
        panel(
            "timeseries",
            "Decisions by action",
            [(f"sum by (action, decision) (sandbox:stockade_decisions:rate5m{PODS})", "{{action}} {{decision}}")],
            unit="reqps",
        ),
        panel(
            "timeseries",
            "Refusals by reason",
            [(f"sum by (reason) (sandbox:stockade_refusals:rate5m{PODS})", "{{reason}}")],
            unit="reqps",
            stack="normal",
        ),
        panel(
            "timeseries",
            "Latency, 99 % below, at the slowest node",
            [(f"max by (stage) (sandbox:stockade_latency_seconds:p99_5m{PODS})", "{{stage}}")],
            unit="s",
        ),
        panel("timeseries", "Octets", [(f"sum by (direction) (sandbox:stockade_bytes:rate5m{PODS})", "{{direction}}")], unit="Bps"),
        panel("timeseries", "Pods by node", [(f"sum by (instance) (stockade_pods{PODS})", "{{instance}}")], stack="normal"),
        panel(
            "timeseries",
            "How full, at the fullest pod",
            [(f"max by (map) (sandbox:stockade_map_fill:ratio{PODS})", "{{map}}")],
            unit="percentunit",
        ),
        panel(
            "table",
            "Policies",
            [(f"max by (policy, mode, instance) (stockade_sandbox_info{PODS})", "")],
            help="In force for some pod of the namespace, at that agent.",
        ),
        panel(
            "timeseries",
            "What failed",
            [
                (f"sum by (helper) (increase(stockade_helper_failures_total{PODS}[5m]))", "helper {{helper}}"),
                (f"sum(increase(stockade_workers_lost_total{PODS}[5m]))", "workers lost"),
            ],
        ),
    ],
    variable="label_values(stockade_pods, namespace)",
    name="namespace",
)

_INFERENCE = '{sandbox="$sandbox",action="inference"}'

PRIVACY = dashboard(
    "stockade-privacy",
    "Stockade: privacy",
    [
        stat("Classifier answers", f"min(stockade_classifier_up{ONE})", steps=BAD_AT_0),
        stat("Layers missing", f"(sum(stockade_classifier_missing{ONE}) or vector(0))", steps=GOOD_AT_0),
        stat("Questions", f"sum(rate(stockade_classifier_requests_total{ONE}[5m]))", unit="reqps"),
        stat("Waiting", f"sum(stockade_classifier_waiting{ONE})"),
        stat(
            "Known already",
            f"sum(stockade_classifier_cached_total{ONE}) / (sum(stockade_classifier_answers_total{ONE}) > 0)",
            unit="percentunit",
        ),
        stat("on_failure decided, 24 h", f"sum(increase(stockade_classifier_failures_total{ONE}[24h]))", steps=GOOD_AT_0),
        panel(
            "timeseries",
            "Calls of models by outcome",
            [(f"sum by (decision, reason) (rate(stockade_decisions_total{_INFERENCE}[5m]))", "{{decision}} {{reason}}")],
            unit="reqps",
        ),
        panel(
            "timeseries",
            "Time to classify",
            [
                ('sandbox:stockade_latency_seconds:p50_5m{sandbox="$sandbox",stage="classification"}', "half below"),
                ('sandbox:stockade_latency_seconds:p99_5m{sandbox="$sandbox",stage="classification"}', "99 % below"),
            ],
            unit="s",
        ),
        panel(
            "timeseries",
            "Failures by kind",
            [(f"sum by (why) (increase(stockade_classifier_failures_total{ONE}[5m]))", "{{why}}")],
        ),
        panel("timeseries", "Characters", [(f"sum(rate(stockade_classifier_characters_total{ONE}[5m]))", "per second")]),
        panel("table", "Runs on", [(f"max by (provider) (stockade_classifier_info{ONE})", "")]),
    ],
    variable='label_values(stockade_classifier_up{sandbox!=""}, sandbox)',
)

DASHBOARDS = {"overview": OVERVIEW, "sandbox": SANDBOX, "namespace": NAMESPACE, "privacy": PRIVACY}


def written() -> dict[str, str]:
    """Text of each file, by name."""
    return {f"{name}.json": json.dumps(each, indent=2) + "\n" for name, each in DASHBOARDS.items()}


def main() -> int:
    for name, text in written().items():
        (HERE / "dashboards" / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
