"""A resource's spec as a policy file: what the loader makes of it is what was meant, and what it says of a line is said of a field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stockade.kubernetes.loading import Broken, Loaded, composed, tried
from stockade.kubernetes.rendering import named, render
from stockade.kubernetes.resources import Key, Resource
from stockade.policy import PolicyError
from stockade.policy.decide import decide
from stockade.policy.load import load
from stockade.policy.model import Policy
from stockade.types import Binary, Reason, Request

ROOT = Path(__file__).resolve().parents[3]
RULE: dict[str, Any] = {
    "name": "read",
    "binary": {"allow": ["curl"]},
    "destination": {"allow": ["api.example.com"], "deny": ["api.example.com:8443"]},
    "port": [443],
    "method": {"allow": ["GET"]},
    "path": {"allow": ["/v1/**"]},
}
EXAMPLES = [path for path in sorted((ROOT / "policies").glob("*/*.yaml")) if not path.stem.endswith("_test")]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=12,
)


def resource(spec: dict[str, Any], name: str = "p", generation: int = 1, namespace: str = "team") -> Resource:
    return Resource(Key(namespace, name), "uid", generation, "1", {"selector": {}} | spec)


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: name != "network"), VALUES, max_size=4))
def test_whatever_a_spec_holds_is_read_back_as_it_was(spec: dict[str, Any]) -> None:
    rendered = render(Key("team", "p"), spec | {"mode": "observe"})
    try:
        found = yaml.safe_load(rendered.text)
    except yaml.reader.ReaderError:
        return  # a character that YAML has no room for, which the loader says too
    expected = {name: value for name, value in spec.items() if name in found}
    assert found == expected | {"version": 1, "name": "p", "mode": "observe"}
    assert len(rendered.fields) == rendered.text.count("\n")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_policy_means_the_same_as_a_resource(path: Path, tmp_path: Path) -> None:
    spec = yaml.safe_load(path.read_text())
    if not isinstance(spec, dict) or spec.keys() & {"rego", "filesystem", "process"} or "./" in str(spec.get("extends")):
        pytest.skip("it has what a resource has not")
    spec = {key: value for key, value in spec.items() if key not in ("version", "name", "labels")}
    found = tried(resource(spec, path.stem, namespace=""), tmp_path)
    assert isinstance(found, Loaded), found
    ours, theirs = load([found.file]), load([path])
    own = {rule["name"] for rule in spec.get("network", ())}
    assert [rule.name for rule in ours.rules] == [named(found.key, rule.name) if rule.name in own else rule.name for rule in theirs.rules]
    assert [(rule.binary, rule.destination, rule.method, rule.path) for rule in ours.rules] == [
        (rule.binary, rule.destination, rule.method, rule.path) for rule in theirs.rules
    ]
    assert ours.exec == theirs.exec and (ours.mode == "observe") is found.observe


@pytest.mark.parametrize(
    ("spec", "field", "code"),
    [
        ({"network": [RULE, RULE | {"name": "b", "pth": {}}]}, "spec.network[1].pth", "unknown_key"),
        ({"network": [RULE | {"destination": {"allow": ["a.example", "*.com"]}}]}, "spec.network[0].destination.allow[1]", ""),
        ({"network": [RULE | {"port": [443, 70000]}]}, "spec.network[0].port[1]", "bad_port"),
        ({"network": {}}, "spec.network", "wrong_type"),
        ({"netwrk": []}, "spec.netwrk", "unknown_key"),
        ({"mode": "watch"}, "spec.mode", ""),
        ({"version": 1}, "spec.version", "unknown_key"),
        ({"extends": ["../../etc/passwd"]}, "spec.extends[0]", "unknown_preset"),
        ({"extends": ["presets/none-such"]}, "spec.extends[0]", "unknown_preset"),
        ({"privacy": {"detect": {"dictionaries": [{"file": "/etc/shadow"}]}}}, "spec.privacy.detect.dictionaries", "unknown_key"),
        ({"rollout": {"stages": [{"percent": 0, "for": "10m"}]}}, "spec.rollout.stages[0].percent", "bad_number"),
        ({"rollout": {"stages": [{"percent": 50, "for": "1m"}, {"percent": 10, "for": "1m"}]}}, "spec.rollout.stages", "bad_number"),
        ({"rollout": {"stages": [{"percent": 50, "for": "soon"}]}}, "spec.rollout.stages[0].for", "bad_number"),
        ({"rollout": {}}, "spec.rollout.stages", "wrong_type"),
    ],
)
def test_what_is_wrong_is_said_of_the_field(spec: dict[str, Any], field: str, code: str, tmp_path: Path) -> None:
    found = tried(resource(spec), tmp_path)
    assert isinstance(found, Broken)
    fault = next(fault for fault in found.faults if fault.field == field)
    assert fault.code == code or (not code and fault.code)
    assert list(tmp_path.iterdir()) == []  # nothing that does not load lies about


def test_only_the_cluster_gives_what_is_the_nodes_own(tmp_path: Path) -> None:
    local = {"privacy": {"local": {"url": "http://localhost:11434", "model": "m"}}}
    loopback = {"network": [RULE, RULE | {"name": "b", "destination": {"allow": ["api.example.com", "LOCALHOST.:2379"]}}]}
    fields = []
    for spec in (local, loopback, {"extends": ["presets/ollama-local"]}):
        assert isinstance(tried(resource(spec, namespace=""), tmp_path), Loaded)
        found = tried(resource(spec), tmp_path)
        assert isinstance(found, Broken) and {fault.code for fault in found.faults} == {"of_the_node"}
        fields += [fault.field for fault in found.faults]
    assert list(dict.fromkeys(fields)) == ["spec.privacy.local", "spec.network[1].destination.allow[1]", "spec"]


def test_a_line_is_that_of_the_rendered_file(tmp_path: Path) -> None:
    rendered = render(Key("team", "p"), {"network": [RULE, RULE | {"name": "b", "method": {"allow": ["get"]}}]})
    file = tmp_path / "p.yaml"
    file.write_text(rendered.text)
    with pytest.raises(PolicyError) as error:
        load([file])
    fault = rendered.located(error.value.problems[0])
    assert fault.field == "spec.network[1].method.allow[0]" and '"get"' in rendered.text.splitlines()[fault.line - 1]


def test_nested_beyond_all_measure_is_refused_and_not_followed() -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep, 1]
    assert any(fault.code == "syntax" for fault in render(Key("team", "p"), {"network": deep}).faults)


def test_policies_of_different_authors_compose_and_the_deny_of_one_vetoes(tmp_path: Path) -> None:
    wide = {"allow": ["*.example.com"], "deny": ["api.example.com"]}
    deny = {"name": "read", "binary": {"allow": ["curl"]}, "destination": wide, "tls": "passthrough"}
    cluster = tried(resource({"network": [deny]}, "p", namespace=""), tmp_path)
    own = tried(resource({"network": [RULE]}), tmp_path)
    assert isinstance(cluster, Loaded) and isinstance(own, Loaded) and cluster.file != own.file
    both = composed([cluster.file, own.file])
    assert isinstance(both, Policy) and [rule.name for rule in both.rules] == ["cluster.p.read", "p.read"]
    asked = Request(Binary.named("curl"), "api.example.com", 443, "GET", "/v1/x")
    assert (decide(asked, load([own.file])).allowed, decide(asked, both).reason) == (True, Reason.RULE_DENY)


@pytest.mark.parametrize("length", [1, 30, 61, 62, 63, 64])
def test_a_rules_name_never_gets_too_long(length: int) -> None:
    for key in (Key("team", "n" * 63), Key("", "n" * 63), Key("team", "a.b-c")):
        found = named(key, "r" * length)
        assert len(found) <= 64 and found.endswith("r" * length) and found[0].isalnum()


def test_another_generation_is_another_file_and_the_same_one_the_same(tmp_path: Path) -> None:
    first, again, second = (tried(resource({"network": [RULE]}, generation=number), tmp_path) for number in (1, 1, 2))
    assert isinstance(first, Loaded) and isinstance(second, Loaded)
    assert first == again and first.file != second.file and first.file.exists() and second.file.exists()
