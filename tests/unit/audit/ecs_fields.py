"""The fields of ECS 9.3.0 that records use, with the type that the published mapping gives them, and the kinds of event of a category.

Written down from the Elastic Common Schema's field reference, https://www.elastic.co/docs/reference/ecs. Raise it with stockade's VERSION.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

# What Elastic's own agents write of a pod beside ECS, all keywords:
# https://www.elastic.co/docs/reference/beats/filebeat/exported-fields-kubernetes-processor
_KUBERNETES = ("namespace", "pod.name", "pod.uid", "node.name", "container.name", "container.image")
OWN = ("stockade.",)  # a field set of our own, as the guidelines want it: one name on top, which ECS has not

FIELDS: Mapping[str, str] = {
    **{f"kubernetes.{name}": "keyword" for name in _KUBERNETES},
    "@timestamp": "date",
    "container.id": "keyword",
    "container.image.name": "keyword",
    "container.name": "keyword",
    "container.runtime": "keyword",
    "destination.address": "keyword",
    "destination.bytes": "long",
    "destination.domain": "keyword",
    "destination.ip": "ip",
    "destination.port": "long",
    "dns.question.name": "keyword",
    "dns.question.type": "keyword",
    "dns.response_code": "keyword",
    "dns.type": "keyword",
    "ecs.version": "keyword",
    "event.action": "keyword",
    "event.category": "keyword",
    "event.code": "keyword",
    "event.dataset": "keyword",
    "event.hash": "keyword",
    "event.id": "keyword",
    "event.kind": "keyword",
    "event.module": "keyword",
    "event.outcome": "keyword",
    "event.provider": "keyword",
    "event.reason": "keyword",
    "event.sequence": "long",
    "event.severity": "long",
    "event.type": "keyword",
    "file.name": "keyword",
    "file.path": "keyword",
    "file.type": "keyword",
    "gen_ai.request.model": "keyword",
    "gen_ai.response.model": "keyword",
    "gen_ai.system": "keyword",
    "host.name": "keyword",
    "http.request.body.bytes": "long",
    "http.request.method": "keyword",
    "http.response.body.bytes": "long",
    "http.response.status_code": "long",
    "labels": "object",
    "message": "match_only_text",
    "network.direction": "keyword",
    "network.protocol": "keyword",
    "network.transport": "keyword",
    "observer.product": "keyword",
    "observer.type": "keyword",
    "observer.vendor": "keyword",
    "observer.version": "keyword",
    "orchestrator.namespace": "keyword",
    "orchestrator.resource.id": "keyword",
    "orchestrator.resource.name": "keyword",
    "orchestrator.resource.type": "keyword",
    "orchestrator.type": "keyword",
    "process.entity_id": "keyword",
    "process.executable": "keyword",
    "process.hash.sha256": "keyword",
    "process.name": "keyword",
    "process.parent.executable": "keyword",
    "process.pid": "long",
    "related.hash": "keyword",
    "related.hosts": "keyword",
    "related.ip": "ip",
    "rule.name": "keyword",
    "rule.ruleset": "keyword",
    "rule.version": "keyword",
    "url.domain": "keyword",
    "url.path": "wildcard",
    "url.port": "long",
}

# event.category → the values that event.type is expected to have with it
KINDS: Mapping[str, frozenset[str]] = {
    "api": frozenset({"access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start", "user"}),
    "configuration": frozenset({"access", "change", "creation", "deletion", "info"}),
    "file": frozenset({"access", "change", "creation", "deletion", "info"}),
    "host": frozenset({"access", "change", "end", "info", "start"}),
    "intrusion_detection": frozenset({"allowed", "denied", "info"}),
    "network": frozenset({"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"}),
    "process": frozenset({"access", "change", "end", "info", "start"}),
    "web": frozenset({"access", "error", "info"}),
}


def _address(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(ipaddress.ip_address(value).packed)
    except ValueError:
        return False


def _labels(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) and "." not in name for name, each in value.items())


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "keyword": lambda value: isinstance(value, str),
    "wildcard": lambda value: isinstance(value, str),
    "match_only_text": lambda value: isinstance(value, str),
    "long": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "ip": _address,
    "date": lambda value: isinstance(value, str) and bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value)),
    "object": _labels,
}
