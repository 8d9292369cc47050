"""Every metric there is: name, kind, labels, meaning. The collector exports nothing else, and docs/metrics.md is made from this list.

No label holds what a sandbox chose: hosts, paths, binaries and rules are in the trail and in `stockade top`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from stockade.metrics.figures import BOUNDS, Asked, Failure, Kind, Stage
from stockade.metrics.namespaces import LEFT_OUT, MOST
from stockade.metrics.snapshot import LOST
from stockade.types import Action, Level, Outcome, Reason


class Type(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Metric:
    """name: as it is queried. labels: beside `sandbox`, which all have that are about one."""

    name: str
    type: Type
    labels: tuple[str, ...]
    help: str


_C, _G, _H, _I = Type.COUNTER, Type.GAUGE, Type.HISTOGRAM, Type.INFO
_S, _N = "sandbox", "namespace"

METRICS = (
    Metric("stockade_build_info", _I, ("version", "python"), "Always 1. What runs here."),
    Metric(
        "stockade_sandbox_info",
        _I,
        (_S, "policy", "mode", "backend"),
        "Always 1. The policy in force, whether it is enforced or only observed, and what refuses an exec: `lsm` or `tracepoint`.",
    ),
    Metric("stockade_pods", _G, (_N,), "Pods of the namespace that this agent governs."),
    Metric("stockade_sandbox_start_time_seconds", _G, (_S,), "Unix time from which this agent serves the sandbox."),
    Metric(
        "stockade_decisions_total",
        _C,
        (_S, "action", "decision", "level", "reason"),
        "Attempts that were decided and recorded. A record that stands for several attempts counts as many.",
    ),
    Metric("stockade_unenforced_total", _C, (_S, "action"), "Attempts that the policy denies and `mode: observe` let pass."),
    Metric("stockade_latency_seconds", _H, (_S, "stage"), "How long a stage took; see the stages below."),
    Metric("stockade_connections", _G, (_S, "kind"), "Connections that are open now."),
    Metric("stockade_sent_bytes_total", _C, (_S, "kind"), "Octets that left: bodies where it is inspected, all where it is relayed."),
    Metric("stockade_received_bytes_total", _C, (_S, "kind"), "The same towards the sandbox."),
    Metric("stockade_processes", _G, (_S,), "Processes that carry the sandbox's tag."),
    Metric("stockade_workers", _G, (_S,), "Proxy workers that serve the sandbox: 1, and 0 while the next one starts."),
    Metric("stockade_workers_lost_total", _C, (_S,), "Proxy workers that died; their connections were cut."),
    Metric("stockade_map_entries", _G, (_S, "map"), "What the sandbox holds of something that has an end. When it is full, it is denied."),
    Metric("stockade_map_capacity", _G, (_S, "map"), "How much that can be."),
    Metric(
        "stockade_helper_failures_total",
        _C,
        (_S, "helper"),
        "Times that a kernel helper failed: what was asked for was denied. `dropped` are packets that the last net dropped.",
    ),
    Metric(
        "stockade_events_lost_total", _C, (_S, "cause"), "The kernel's events that are on no record of their own: drops of the ring first."
    ),
    Metric("stockade_audit_records_total", _C, (_S,), "Records of the sandbox that this agent wrote to the trail."),
    Metric("stockade_audit_broken", _G, (_S,), "1 when a record could not be written: `on_audit_failure` says what is allowed then."),
    Metric("stockade_audit_lag_seconds", _H, (_S,), "From an event in the kernel until its record is in the trail."),
    Metric(
        "stockade_audit_missed_total",
        _C,
        (_S,),
        "Records that could not be written to the trail. Once it can be, a record has the count.",
    ),
    Metric("stockade_audit_checkpoints_total", _C, (_S,), "Signatures over the trail."),
    Metric("stockade_audit_rotations_total", _C, (_S,), "Times that the trail went on in another file."),
    Metric("stockade_audit_failures_total", _C, (_S,), "Checkpoints, rotations and pins that failed."),
    Metric("stockade_audit_sink_sent_total", _C, (_S, "sink", "type"), "Records that a sink delivered."),
    Metric("stockade_audit_sink_lost_total", _C, (_S, "sink", "type"), "Records that a sink gave up. They are in the trail."),
    Metric("stockade_audit_sink_retries_total", _C, (_S, "sink", "type"), "Deliveries that failed and are tried again."),
    Metric("stockade_audit_sink_behind_bytes", _G, (_S, "sink", "type"), "Octets of the trail that a sink has not delivered yet."),
    Metric("stockade_audit_sink_failing", _G, (_S, "sink", "type"), "1 while the last delivery failed."),
    Metric("stockade_policy_generation", _G, (_S,), "The generation in force."),
    Metric("stockade_policy_reloads_total", _C, (_S, "result"), "Reloads that were asked for, by what came of them."),
    Metric("stockade_policy_reload_failed", _G, (_S,), "1 when the newest reload was refused: the policy on disk is not the one in force."),
    Metric("stockade_policy_reload_time_seconds", _G, (_S,), "Unix time of the newest reload that switched; of the start, when none did."),
    Metric("stockade_approvals_pending", _G, (_S,), "Refusals that a person may lift and has not looked at."),
    Metric("stockade_agent_gap_seconds_total", _C, (_S,), "Seconds for which there was no agent, when this one adopted the sandbox."),
    Metric(
        "stockade_enforcement_lost_total",
        _C,
        (_S,),
        "Times that what holds the sandbox was taken away. It is killed then, and this agent ends: see `up` too.",
    ),
    Metric("stockade_classifier_up", _G, (_S,), "1 while the classifier answers. Not there for a policy that asks it nothing."),
    Metric("stockade_classifier_info", _I, (_S, "provider"), "Always 1. What its model runs on; `none` without a model."),
    Metric("stockade_classifier_missing", _G, (_S, "layer"), "1 for a layer that could not be loaded: on_failure decides."),
    Metric("stockade_classifier_requests_total", _C, (_S,), "Questions to the classifier."),
    Metric("stockade_classifier_answers_total", _C, (_S,), "Questions that it answered."),
    Metric("stockade_classifier_cached_total", _C, (_S,), "Answers that it knew."),
    Metric("stockade_classifier_failures_total", _C, (_S, "why"), "Questions without findings: on_failure decided."),
    Metric("stockade_classifier_characters_total", _C, (_S,), "Characters that were classified."),
    Metric("stockade_classifier_waiting", _G, (_S,), "Questions that have no answer yet."),
    Metric("stockade_local_model_up", _G, (_S,), "1 if the local model answered when it was last asked or looked at. Not there before."),
    Metric("stockade_local_model_waiting", _G, (_S,), "Calls that wait for a place at the local model, of all sandboxes led there."),
    Metric("stockade_local_model_running", _G, (_S,), "Calls that the local model has, of all sandboxes led there."),
    Metric("stockade_local_model_calls_total", _C, (_S, "outcome"), "Calls for the local model, by what came of them."),
    Metric("stockade_certificate_expiry_time_seconds", _G, (_S, "certificate"), "Unix time at which a certificate ends."),
    Metric("stockade_authority_renewal_due_time_seconds", _G, (_S,), "Unix time at which another key has to sign the certificates shown."),
    Metric("stockade_authority_renewals_total", _C, (_S, "renewal"), "Times that another key was to sign, by what came of it."),
    Metric("stockade_authority_renewal_failing", _G, (_S,), "1 while the newest attempt failed: the key before goes on until it expires."),
    Metric(
        "stockade_metrics_requests_total", _C, ("code",), "Requests for this page, by status; `peer` is a sandbox that was turned away."
    ),
)

# Of the admission webhook, which is a process of its own with a page of its own.
WEBHOOK = (
    Metric("stockade_build_info", _I, ("version", "python"), "Always 1. What runs here."),
    Metric("stockade_webhook_reviews_total", _C, ("review",), "Questions of the API server about a pod, by what came of them."),
    Metric("stockade_webhook_review_seconds", _H, (), "From a whole question to its answer."),
    Metric(
        "stockade_webhook_requests_total",
        _C,
        ("status",),
        "Requests, by HTTP status; `busy` are connections that were turned away, for their number.",
    ),
    Metric("stockade_webhook_certificate_expiry_time_seconds", _G, (), "Unix time at which the certificate that is shown ends."),
    Metric("stockade_webhook_certificate_failing", _G, (), "1 while the newest certificate cannot be used: the one before goes on."),
)

BY_NAME = {metric.name: metric for metric in METRICS}

RESULTS = ("switched", "refused")
CERTIFICATES = ("authority", "signing", "metrics")
RENEWALS = ("renewed", "failed")
MAPS = ("tasks", "origins", "conversations", "names", "verdicts", "literals", "binaries", "scripts")
REVIEWS = ("changed", "unchanged", "left", "malformed", "failed")
STATUSES = ("200", "400", "404", "405", "413", "431", "500", "501", "503", "busy")
CODES = ("200", "400", "401", "404", "405", "503", "peer")

VALUES = {
    "action": [action.value for action in Action],
    "decision": [outcome.value for outcome in Outcome],
    "level": [level.value for level in Level],
    "reason": [reason.value for reason in Reason],
    "stage": [stage.value for stage in Stage],
    "kind": [kind.value for kind in Kind],
    "map": list(MAPS),
    "cause": list(LOST.values()),
    "result": list(RESULTS),
    "certificate": list(CERTIFICATES),
    "renewal": list(RENEWALS),
    "why": [failure.value for failure in Failure],
    "outcome": [asked.value for asked in Asked],
    "code": list(CODES),
    "review": list(REVIEWS),
    "status": list(STATUSES),
}

_STAGES = {
    Stage.EXEC: "from the kernel's hook on an exec to its written record",
    Stage.CONNECT: "from the accept of a connection until it is known who calls, and decided",
    Stage.CLIENT_TLS: "the handshake with the client inside",
    Stage.DECIDE: "from the head of a request to its decision, written down by the agent",
    Stage.CLASSIFICATION: "a body that was read before it was decided: extraction, detectors, route",
    Stage.UPSTREAM_CONNECT: "look-up of the name, check of its addresses, TCP",
    Stage.UPSTREAM_TLS: "the handshake with the server",
    Stage.FIRST_BYTE: "from the release of a request to the head of its answer",
}

_OTHER_LABELS = {
    "sandbox": "the name of the sandbox: at most 63 letters, digits, `.`, `_`, `-`; not there for a pod",
    "namespace": "of pods; not there for any other sandbox",
    "policy": "the name in the policy file, as its author wrote it; one at a time",
    "mode": "`enforce`, `observe`",
    "backend": "`lsm`, `tracepoint`",
    "sink": "the sink's name in the settings",
    "type": "the sink's type in the settings",
    "helper": "names of `enum failure` in bpf/include/abi.h, without `event`",
    "provider": "ONNX Runtime's name of it, `none` without a model",
    "layer": "the classifier's layers",
    "version": "Stockade's",
    "python": "the interpreter's",
}


def reference() -> str:
    """docs/metrics.md."""
    return "\n".join(_reference()) + "\n"


def _reference() -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield "Made from [agent/stockade/metrics/catalogue.py](../agent/stockade/metrics/catalogue.py); a test holds the two together."
    yield "How to get them into a Prometheus: [observability.md](observability.md)."
    yield ""
    yield "A counter starts at 0 with its agent. A sandbox's series end with it. What a worker measures reaches the agent once a second;"
    yield "what it measured in the second before it died is lost. Figures are no evidence: that is the [audit trail](audit-verify.md)."
    yield ""
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        yield f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |"
    yield ""
    yield "**Pods** are added up: `namespace` stands where `sandbox` does in the table, and no label says which pod. What counts goes on"
    yield f"when a pod has ended, for the {MOST} namespaces that had one last. The rest: the fullest pod's `stockade_map_*`; the least of"
    yield "`stockade_workers`, of `*_up` and of every time at which something ends; 1 where it is 1 for one pod; else the sum. What the"
    yield "agent has once for all its sandboxes, trail and kernel, is said at each namespace. Not there:"
    yield f"{', '.join(f'`stockade_{name}`' for name in LEFT_OUT)}."
    yield ""
    yield "Beside these stand the `process_*` metrics of the agent itself: CPU, memory, descriptors."
    yield ""
    yield "`stockade kubernetes webhook --metrics ADDRESS` has a page of its own, with its own `process_*` and:"
    yield ""
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in WEBHOOK[1:]:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        yield f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |"
    yield ""
    yield "## Labels"
    yield ""
    yield "Every value is of a closed list, or written by whoever administers the machine. No label holds a host, a path, a binary or a"
    yield "rule: what a sandbox does cannot make series."
    yield ""
    yield "| label | values |"
    yield "|---|---|"
    for label in dict.fromkeys(label for metric in (*METRICS, *WEBHOOK) for label in metric.labels):
        values = ", ".join(f"`{value}`" for value in VALUES[label]) if label in VALUES else _OTHER_LABELS[label]
        yield f"| `{label}` | {values} |"
    yield ""
    yield "## Stages of `stockade_latency_seconds`"
    yield ""
    yield "| stage | what is timed |"
    yield "|---|---|"
    for stage, words in _STAGES.items():
        yield f"| `{stage}` | {words} |"
    yield ""
    yield f"Upper ends of the buckets, of `stockade_audit_lag_seconds` too, in seconds: {', '.join(f'{bound:g}' for bound in BOUNDS)}."
