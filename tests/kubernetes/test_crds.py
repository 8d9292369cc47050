"""The resources as a real API server has them: it takes the definitions, good policies, and refuses bad ones where they are bad."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.kubernetes import Cluster
from stockade.policy.format.crd import GROUP, VERSION

ROOT = Path(__file__).resolve().parents[2]
DEFINITIONS = ROOT / "deploy/kubernetes/crds.yaml"
EXAMPLES = [path for path in sorted((ROOT / "policies").glob("*/*.yaml")) if not path.stem.endswith("_test")]
NAMES = ("stockadepolicies", "clusterstockadepolicies")
RULE: dict[str, Any] = {
    "name": "read",
    "binary": {"allow": ["curl"]},
    "destination": {"allow": ["api.example.com"], "deny": ["api.example.com:8443"]},
    "port": [443],
    "method": {"allow": ["GET"]},
    "path": {"allow": ["/v1/**"]},
}


@pytest.fixture(scope="module")
def defined(cluster: Cluster) -> Iterator[Cluster]:
    cluster.apply(DEFINITIONS.read_text())
    for name in NAMES:
        cluster.wait(f"crd/{name}.{GROUP}", "condition=Established")
    yield cluster
    cluster.kubectl("delete", "crd", *(f"{name}.{GROUP}" for name in NAMES))


def policy(name: str, *, kind: str = "StockadePolicy", rule: dict[str, Any] | None = None, **spec: Any) -> str:
    whole = {"network": [RULE | (rule or {})], "selector": {"matchLabels": {"app": "agent"}}} | spec
    whole["network"] = [{key: value for key, value in each.items() if value is not None} for each in whole["network"]]
    return json.dumps({"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": {"name": name}, "spec": whole})


def refused(cluster: Cluster, manifest: str) -> str:
    """What the API server says of it: not kubectl's own look at it, which other clients have not."""
    done = cluster.apply(manifest, "--validate=false", check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_definitions_are_structural_and_served(defined: Cluster, name: str) -> None:
    said = json.loads(defined.kubectl("get", "crd", f"{name}.{GROUP}", "-o", "json").stdout)
    conditions = {each["type"]: each["status"] for each in said["status"]["conditions"]}
    assert conditions.get("NonStructuralSchema", "False") == "False" and conditions["NamesAccepted"] == "True", conditions


@pytest.mark.parametrize("kind", ["StockadePolicy", "ClusterStockadePolicy"])
def test_a_good_policy_is_taken_whole(defined: Cluster, kind: str) -> None:
    extra = {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}} if kind.startswith("Cluster") else {}
    tcp = {"name": "ssh", "binary": {"allow": ["ssh"]}, "destination": {"allow": ["git.example.com"]}, "port": [22], "protocol": "tcp"}
    wanted = policy(
        "good", kind=kind, network=[RULE, tcp], mode="observe", exec={"unlisted": "no-network"}, privacy={"mode": "audit"}, **extra
    )
    defined.apply(wanted)
    kept = json.loads(defined.kubectl("get", kind, "good", "-o", "json").stdout)
    assert kept["spec"] == json.loads(wanted)["spec"]
    defined.kubectl("delete", kind, "good")


def _rules(path: Path) -> list[dict[str, Any]]:
    whole = yaml.safe_load(path.read_text())
    found = whole if isinstance(whole, list) else whole.get("network", [])
    return [rule for rule in found if "destination" in rule]


@pytest.mark.parametrize("path", [path for path in EXAMPLES if _rules(path)], ids=lambda path: path.stem)
def test_the_examples_are_taken(defined: Cluster, path: Path) -> None:
    rules = _rules(path)
    for rule in rules:
        if "port" in rule and not isinstance(rule["port"], list):
            rule["port"] = [rule["port"]]
    defined.apply(policy("example", network=rules))
    defined.kubectl("delete", "stockadepolicy", "example")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rule": {"tls": "strip"}}, "spec.network.tls"),
        ({"rule": {"binary": None}}, "spec.network.binary"),
        ({"rule": {"path": None}}, "spec.network"),
        ({"rule": {"tls": "passthrough"}}, "spec.network"),
        ({"rule": {"port": [70000]}}, "spec.network.port"),
        ({"rule": {"port": 443}}, "spec.network.port"),
        ({"rule": {"name": "no name"}}, "spec.network.name"),
        ({"rule": {"method": {"allow": ["get"]}}}, "spec.network.method.allow"),
        ({"rule": {"path": {"allow": []}}}, "spec.network.path.allow"),
        ({"mode": "maybe"}, "spec.mode"),
        ({"priority": 5000}, "spec.priority"),
        ({"network": []}, "spec.network"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}, "spec.selector.matchExpressions.operator"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value),
)
def test_a_bad_policy_is_refused_and_the_field_named(defined: Cluster, changes: dict[str, Any], field: str) -> None:
    said = refused(defined, policy("bad", **changes))
    assert field in said, said
    assert "NotFound" in defined.kubectl("get", "stockadepolicy", "bad", check=False).stderr


def test_a_misspelt_key_is_kept_for_the_loader_and_not_dropped(defined: Cluster) -> None:
    """A deny list that the API server drops is a policy that allows more than it says."""
    defined.apply(policy("typo", rule={"pth": {"deny": ["/v1/admin/**"]}}), "--validate=false")
    kept = json.loads(defined.kubectl("get", "stockadepolicy", "typo", "-o", "json").stdout)
    assert kept["spec"]["network"][0]["pth"] == {"deny": ["/v1/admin/**"]}
    defined.kubectl("delete", "stockadepolicy", "typo")


def test_a_status_is_written_apart_and_shown_in_columns(defined: Cluster) -> None:
    defined.apply(policy("shown"))
    condition = {"type": "Loaded", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "BadPolicy", "message": "no"}
    problem = {"field": "spec.network[0].pth", "line": 4, "code": "unknown_key", "message": "unknown key pth"}
    status = {
        "pods": 4,
        "sandboxes": 3,
        "refused": 17,
        "conditions": [condition],
        "nodes": [{"name": "node1", "loaded": False, "generation": 1, "problems": [problem]}],
    }
    path = f"/apis/{GROUP}/{VERSION}/namespaces/default/stockadepolicies/shown"
    whole = json.loads(defined.kubectl("get", "--raw", path).stdout)
    changed = whole | {"status": status, "spec": whole["spec"] | {"mode": "observe"}}
    defined.kubectl("replace", "--raw", f"{path}/status", "-f", "-", text=json.dumps(changed))
    kept = json.loads(defined.kubectl("get", "--raw", path).stdout)
    assert kept["status"] == status and "mode" not in kept["spec"]
    head, row = defined.kubectl("get", "stp").stdout.splitlines()
    assert head.split() == ["NAME", "MODE", "LOADED", "PODS", "GOVERNED", "REFUSED", "AGE"], head
    assert row.split()[1:5] == ["False", "4", "3", "17"], row
    defined.kubectl("delete", "stockadepolicy", "shown")
