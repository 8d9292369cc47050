"""Which pods the webhook changes, by what it has heard of policies: those that a node's agent will hold."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.kubernetes import resources
from stockade.kubernetes.meant import CLUSTER_POLICIES, NAMESPACES, POLICIES, Meant
from stockade.kubernetes.watching import Changed, Listed, Lost

Json = dict[str, Any]
AGENTS = {"matchLabels": {"app": "agent"}}


def policy(name: str, namespace: str = "", **spec: Any) -> resources.Resource:
    return resources.policy({"metadata": {"name": name, "namespace": namespace, "uid": name}, "spec": spec})


def pod(labels: Json | None = None, annotations: Json | None = None) -> Json:
    return {"metadata": {"name": "p", "labels": labels or {}, "annotations": annotations or {}}, "spec": {"containers": []}}


AGENT, OTHER = pod({"app": "agent"}), pod({"app": "web"})


@pytest.fixture
def meant() -> Meant:
    found = Meant()
    found.told(Listed(NAMESPACES, (("team", {"tier": "gold"}), ("other", {}))))
    found.told(Listed(POLICIES, (policy("own", "team", selector=AGENTS),)))
    found.told(Listed(CLUSTER_POLICIES, ()))
    return found


def test_before_all_is_known_every_pod_is_meant() -> None:
    meant = Meant()
    for kind in (NAMESPACES, POLICIES):
        meant.told(Listed(kind, ()))
        assert meant.means("team", OTHER) and not meant.known
    meant.told(Listed(CLUSTER_POLICIES, ()))
    assert not meant.means("team", OTHER) and meant.known


def test_a_policy_means_the_pods_of_its_namespace_that_it_selects(meant: Meant) -> None:
    assert meant.means("team", AGENT) and not meant.means("team", OTHER) and not meant.means("other", AGENT)


def test_a_policy_of_the_cluster_means_by_namespace_too(meant: Meant) -> None:
    gold = {"matchLabels": {"tier": "gold"}}
    meant.told(Changed(CLUSTER_POLICIES, policy("all", selector={}, namespaceSelector=gold), False))
    assert meant.means("team", OTHER) and not meant.means("other", OTHER)
    meant.told(Changed(NAMESPACES, ("other", {"tier": "gold"}), False))
    assert meant.means("other", OTHER)
    meant.told(Changed(NAMESPACES, ("other", {}), True))
    assert not meant.means("other", OTHER)


def test_who_names_a_policy_is_meant_also_by_one_that_is_not_there(meant: Meant) -> None:
    assert meant.means("other", pod(annotations={resources.POLICY: "absent"})), "its node refuses it then"


def test_what_is_taken_away_means_nobody_and_what_cannot_be_read_whom_it_meant_before(meant: Meant) -> None:
    meant.told(Changed(POLICIES, policy("own", "team", selector={"matchLabel": {}}), False))
    assert meant.means("team", AGENT) and not meant.means("team", OTHER)
    meant.told(Changed(POLICIES, policy("own", "team"), True))
    assert not meant.means("team", AGENT)
    meant.told(Changed(POLICIES, policy("bad", "team", selector=5), False))
    assert not meant.means("team", AGENT)
    meant.told(Changed(POLICIES, policy("own", "team", selector=AGENTS), False))
    meant.told(Listed(CLUSTER_POLICIES, ()))
    assert meant.means("team", AGENT), "a list of the other kind says nothing of it"
    meant.told(Listed(POLICIES, ()))
    assert not meant.means("team", AGENT)


def test_while_the_api_is_away_what_was_known_holds(meant: Meant) -> None:
    meant.told(Lost(POLICIES, "away"))
    assert meant.means("team", AGENT) and not meant.means("team", OTHER)


@pytest.mark.parametrize("garbage", [{}, {"metadata": []}, {"metadata": {"labels": 5}}, {"spec": "x"}])
def test_garbage_is_not_meant_and_raises_nothing(meant: Meant, garbage: Json) -> None:
    if isinstance(garbage.get("spec"), str):
        garbage = garbage | {"metadata": {}}
    assert not meant.means("team", garbage)
