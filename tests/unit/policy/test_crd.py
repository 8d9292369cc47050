"""The resources of Kubernetes say what the format says. That a real API server takes them is in tests/kubernetes/test_crds.py.

`STOCKADE_GOLDEN=write` renews deploy/kubernetes/crds.yaml.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import re2
import yaml

from stockade.policy.format.crd import LEFT_OUT, as_text, definitions, structural
from stockade.policy.format.spec import POLICY

ROOT = Path(__file__).resolve().parents[3]
KINDS = {each["spec"]["names"]["kind"]: each for each in definitions()}
KNOWN = {  # what apiextensions.k8s.io/v1 has and this uses
    *("description", "type", "properties", "additionalProperties", "items", "required", "enum", "pattern", "format", "minimum", "maximum"),
    *("minItems", "maxItems", "maxLength", "anyOf", "allOf", "not"),
    *("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}
POLICIES = [path for path in sorted((ROOT / "policies").rglob("*.yaml")) if "network:" in path.read_text()]


def whole(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = KINDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(node: Any, *, asserted: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every schema in a schema, and whether it stands below a logical word."""
    yield node, asserted
    for key in ("items", "not", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], asserted=asserted or key == "not")
    for key in ("anyOf", "allOf"):
        for each in node.get(key, []):
            yield from nodes(each, asserted=True)
    for each in node.get("properties", {}).values():
        yield from nodes(each, asserted=asserted)


def spec_of(policy: dict[str, Any]) -> dict[str, Any]:
    """A policy file's content as a resource has it: without what is left out there, and lists where the format takes one value too."""
    spec = {key: value for key, value in policy.items() if key not in LEFT_OUT}
    for rule in [*spec.get("network", []), *spec.get("override", {}).values()]:
        for key in ("port", "sha256"):
            if key in rule and not isinstance(rule[key], list):
                rule[key] = [rule[key]]
    return spec


def refusals(spec: dict[str, Any]) -> list[str]:
    """Where the schema refuses it, by a checker that is not Kubernetes'."""
    checker = jsonschema.Draft202012Validator(whole("StockadePolicy"))
    return [error.json_path for error in checker.iter_errors({"spec": spec})]


def test_the_file_is_fresh() -> None:
    path = ROOT / "deploy/kubernetes/crds.yaml"
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        path.write_text(as_text(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == as_text()
    assert list(yaml.safe_load_all(as_text())) == definitions()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_structural(kind: str) -> None:
    for node, asserted in nodes(whole(kind)):
        assert set(node) <= KNOWN, node
        assert not {"properties", "additionalProperties"} <= set(node), node
        if asserted:
            assert not {"type", "description", "additionalProperties", "x-kubernetes-preserve-unknown-fields"} & set(node), node
        else:
            free = node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-int-or-string")
            assert "type" in node or free, node


@pytest.mark.parametrize("kind", KINDS)
def test_its_patterns_are_those_of_the_api_server(kind: str) -> None:
    """Go's regular expressions are RE2's."""
    patterns = {node["pattern"] for node, _ in nodes(whole(kind)) if "pattern" in node}
    assert len(patterns) > 10
    for pattern in patterns:
        re2.compile(pattern)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_policy_is_there_or_left_out_with_a_reason(kind: str) -> None:
    spec = whole(kind)["properties"]["spec"]["properties"]
    ours = {key.name for key in POLICY.keys}
    assert ours - set(spec) == set(LEFT_OUT) and set(spec) - ours <= {"selector", "namespaceSelector", "priority", "rollout"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_does_not_know_is_kept_for_the_loader_to_refuse(kind: str) -> None:
    spec = whole(kind)["properties"]["spec"]
    objects = [node for node, asserted in nodes(spec) if not asserted and "properties" in node]
    assert len(objects) > 10 and all(node.get("x-kubernetes-preserve-unknown-fields") for node in objects)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: str(path.relative_to(ROOT / "policies")))
def test_policies_of_ours_are_good_ones(path: Path) -> None:
    policy = yaml.safe_load(path.read_text())
    if isinstance(policy, dict):
        assert not refusals(spec_of(policy))


RULE = {
    "name": "read",
    "binary": {"allow": ["curl"]},
    "destination": {"allow": ["api.example.com"]},
    "method": {"allow": ["GET"]},
    "path": {"allow": ["/v1/**"]},
}


def _but(**keys: Any) -> dict[str, Any]:
    return {key: value for key, value in (RULE | keys).items() if value is not None}


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        (RULE, None),
        (_but(method=None, path=None, tls="passthrough"), None),
        (_but(method=None, path=None, protocol="tcp", port=[22]), None),
        (_but(tls="passthrough"), "$.spec.network[0]"),
        (_but(path=None), "$.spec.network[0]"),
        (_but(binary=None), "$.spec.network[0]"),
        (_but(name="no name"), "$.spec.network[0].name"),
        (_but(port=443), "$.spec.network[0].port"),
        (_but(port=[70000]), "$.spec.network[0].port[0]"),
        (_but(tls="strip"), "$.spec.network[0].tls"),
        (_but(binary={"allow": ["../curl"]}), "$.spec.network[0].binary.allow[0]"),
        (_but(method={"allow": ["get"]}), "$.spec.network[0].method.allow[0]"),
        (_but(path={"allow": []}), "$.spec.network[0].path.allow"),
    ],
)
def test_good_rules_are_taken_and_bad_ones_refused_where_they_are_bad(rule: dict[str, Any], where: str | None) -> None:
    found = refusals({"network": [rule]})
    assert found == [] if where is None else where in found, found


def test_what_has_no_counterpart_is_not_left_out_in_silence() -> None:
    with pytest.raises(ValueError, match="no dependentRequired"):
        structural({"type": "object", "dependentRequired": {}}, {})
    with pytest.raises(ValueError, match="look around"):
        structural({"type": "string", "pattern": "^a(?!b)c$"}, {})
