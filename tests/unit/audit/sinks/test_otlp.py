"""Where a record is from, by the names that OpenTelemetry has for a pod: of the record, since one agent tells of many."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs

from stockade.audit.chain import GENESIS, seal
from stockade.audit.record import describe
from stockade.audit.sinks.otlp import _record
from stockade.audit.sinks.sink import Item
from stockade.types import Sandbox
from unit.audit.examples import POD
from unit.audit.samples import BOX, connect

PLACES = ("k8s.", "container.")


def sent(labels: dict[str, str]) -> dict[str, str]:
    """Attributes as a receiver decodes them."""
    sandbox = Sandbox(BOX.id, BOX.name, BOX.policy, 1, labels)
    line, _ = seal(describe(sandbox, connect()) | {"seq": 7, "time": "2026-11-24T15:14:00.000001Z"}, GENESIS)
    encoded: Any = encode_logs([_record(Item(line[:-1], json.loads(line), "json"))])
    (record,) = encoded.resource_logs[0].scope_logs[0].log_records
    return {each.key: each.value.string_value for each in record.attributes}


def test_a_record_of_a_pod_says_so() -> None:
    assert {name: text for name, text in sent(POD).items() if name.startswith(PLACES)} == {
        "k8s.namespace.name": "team-a",
        "k8s.pod.name": "agent-0",
        "k8s.pod.uid": POD["pod_uid"],
        "k8s.node.name": "node1",
        "k8s.container.name": "main",
        "container.name": "main",
        "container.id": POD["container_id"],
        "container.image.name": POD["image"],
    }


@pytest.mark.parametrize("labels", [{}, {"namespace": "team-a"}, {"agent": "claude-code"}])
def test_any_other_does_not(labels: dict[str, str]) -> None:
    assert not [name for name in sent(labels) if name.startswith(PLACES)]
