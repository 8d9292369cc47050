"""Which policies a pod is held to: a table of selectors, the order, annotations, and who may say that it mirrors whom."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.kubernetes.resources import Key, Seen, pod
from stockade.kubernetes.selecting import Choice, by_uid, choice, chosen, missing
from stockade.node.pod import Pod

LABELS = {"app": "agent", "tier": "back"}
# One that runs beside the others, and is asked by the kubelet whether it is ready (since 1.29).
SIDECAR = {"name": "mesh", "image": "s:1", "restartPolicy": "Always", "startupProbe": {"httpGet": {"path": "/", "port": 15021}}}
NAMESPACES = {"team": {"kept": "yes"}, "other": {}}


def seen(uid: str = "1", namespace: str = "team", names: tuple[str, ...] | None = None, **more: Any) -> Seen:
    return Seen(Pod(more.pop("hash", uid), namespace, "box"), uid, LABELS, names, **more)


@pytest.mark.parametrize(
    ("selector", "chooses"),
    [
        ({}, True),
        ({"matchLabels": {}}, True),
        ({"matchLabels": {"app": "agent"}}, True),
        ({"matchLabels": {"app": "agent", "tier": "front"}}, False),
        ({"matchLabels": {"absent": ""}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "agent"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["agent"]}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "absent", "operator": "In", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "agent"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]}, False),
        ({"matchExpressions": [{"key": "stockade.internal/kept", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_selectors_choose_as_kubernetes_does(selector: Any, chooses: bool) -> None:
    found, faults = choice(Key("team", "p"), {"selector": selector})
    assert faults == [] and found.means(seen(), NAMESPACES) is chooses


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"selector": []}, "spec.selector"),
        ({"selector": {"matchLables": {}}}, "spec.selector.matchLables"),
        ({"selector": {"matchLabels": {"a b": "c"}}}, "spec.selector.matchLabels.a b"),
        ({"selector": {"matchLabels": {"a": 1}}}, "spec.selector.matchLabels.a"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}, "spec.selector.matchExpressions[0]"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "spec.selector.matchExpressions[0]"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}}, "spec.selector.matchExpressions[0]"),
        ({"selector": {"matchExpressions": {"key": "a"}}}, "spec.selector.matchExpressions"),
        ({"selector": {}, "namespaceSelector": {}}, "spec.namespaceSelector"),
        ({"selector": {}, "priority": 5000}, "spec.priority"),
    ],
)
def test_what_is_no_selector_is_a_fault(spec: Any, field: str) -> None:
    found, faults = choice(Key("team", "p"), spec)
    assert [fault.field for fault in faults] == [field]
    if "selector" in field:
        assert not found.means(seen(), NAMESPACES) or spec["selector"] == {}


def test_a_policy_is_for_its_namespace_and_one_of_the_cluster_for_those_it_selects() -> None:
    own, _ = choice(Key("team", "p"), {"selector": {}})
    cluster, _ = choice(Key("", "p"), {"selector": {}, "namespaceSelector": {"matchLabels": {"kept": "yes"}}})
    assert own.means(seen(), NAMESPACES) and not own.means(seen(namespace="other"), NAMESPACES)
    assert cluster.means(seen(), NAMESPACES) and not cluster.means(seen(namespace="other"), NAMESPACES)
    assert not cluster.means(seen(namespace="unheard"), NAMESPACES)


def test_those_of_the_cluster_stand_first_then_priority_then_the_name() -> None:
    found = [
        choice(key, {"selector": {}, "priority": priority})[0]
        for key, priority in [
            (Key("team", "b"), 0),
            (Key("team", "a"), 0),
            (Key("team", "z"), 9),
            (Key("", "y"), -5),
            (Key("", "x"), -5),
            (Key("", "w"), 0),
        ]
    ]
    assert [each.key.name for each in chosen(seen(), found, NAMESPACES)] == ["w", "x", "y", "z", "a", "b"]


def test_what_has_no_selector_is_for_the_pods_that_name_it() -> None:
    named, selecting = Choice(Key("team", "named")), choice(Key("team", "wide"), {"selector": {"matchLabels": {"app": "none"}}})[0]
    assert not named.means(seen(), NAMESPACES)
    pod = seen(names=("named", "wide", "absent"))
    found = chosen(pod, [named, selecting], NAMESPACES)
    assert [each.key.name for each in found] == ["named"]  # a pod cannot name itself into what chooses by label
    assert missing(pod, found) == ["wide", "absent"]


def test_nobody_takes_a_pods_place_by_saying_that_it_mirrors_it() -> None:
    real = seen("u-1", created="2026-01-02T00:00:00Z")
    liar = seen("u-2", hash="u-1", mirror=True, created="2026-01-01T00:00:00Z")
    assert by_uid([real, liar]) == by_uid([liar, real]) == {"u-1": real}
    first, second = (seen(uid, hash="h", mirror=True, created=created) for uid, created in (("a", "2026-01-01"), ("b", "2026-01-02")))
    assert by_uid([first, second]) == by_uid([second, first]) == {"h": first}


def test_a_pod_is_read_for_what_is_known_of_it() -> None:
    probe = {"httpGet": {"path": "/", "port": "web"}}
    item = {
        "metadata": {
            "name": "box",
            "namespace": "team",
            "uid": "u-1",
            "labels": LABELS,
            "annotations": {"kubernetes.io/config.mirror": "h", "kubernetes.io/config.hash": "h", "stockade.internal/policy": " a, b,a "},
        },
        "spec": {
            "nodeName": "node1",
            "serviceAccountName": "sa",
            "hostNetwork": True,
            "volumes": [{"name": "stockade-trust", "emptyDir": {}}],
            "initContainers": [{"name": "first", "image": "i:1"}],
            "containers": [
                {
                    "name": "main",
                    "image": "m:1",
                    "ports": [{"name": "web", "containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}],
                    "livenessProbe": probe,
                    "readinessProbe": {"tcpSocket": {"port": 9000}},
                    "startupProbe": {"grpc": {"port": 9001}},
                }
            ],
            "ephemeralContainers": [{"name": "debug", "image": "d:1"}],
        },
        "status": {"phase": "Running"},
    }
    found = pod(item)
    assert found == Seen(
        Pod("h", "team", "box", "node1", "sa", True, {"first": "i:1", "main": "m:1", "debug": "d:1"}, (8080, 9000, 9001)),
        "u-1",
        LABELS,
        ("a", "b"),
        mirror=True,
        trusts=True,
    )
    assert pod({"spec": {"initContainers": [SIDECAR]}}).pod == Pod("", "", "", containers={"mesh": "s:1"}, ports=(15021,))
    assert pod({"status": {"phase": "Failed"}}).ended and pod({"spec": [], "metadata": None, "status": 3}).pod.uid == ""
