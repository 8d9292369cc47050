"""What of a policy is in force on a node, whatever the status says that every node may write."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockade.kubernetes.generations import Generations, Policy
from stockade.kubernetes.resources import Key, Resource

KEY = Key("team", "p")
STAGES = {"rollout": {"stages": [{"percent": 100, "for": "1h"}]}}


def spec(host: str, **more: Any) -> dict[str, Any]:
    rule = {"name": "r", "binary": {"allow": ["curl"]}, "destination": {"allow": [host]}, "port": [443], "tls": "passthrough"}
    return {"selector": {}, "network": [rule], **more}


OPEN = {"generation": 1, "spec": spec("evil.example.com")}


def resource(generation: int, said: dict[str, Any], rollout: dict[str, Any] | None = None) -> Resource:
    status = {"rollout": {"stage": 0, "since": "2026-01-01T00:00:00Z"} | rollout} if rollout else {}
    return Resource(KEY, "uid", generation, "1", said, status)


@pytest.fixture
def node(tmp_path: Path) -> Generations:
    return Generations(tmp_path, lambda: None)


def heard(node: Generations, item: Resource) -> Policy:
    node.hear(item, gone=False)
    asyncio.run(node.learn())
    return node.policies[KEY]


def in_force(policy: Policy) -> tuple[int, bool]:
    """Which generation, and whether it lets anybody to what the status would open."""
    assert policy.good is not None
    return policy.good.generation, "evil" in policy.good.file.read_text()


@pytest.mark.parametrize("state", ["Progressing", "RolledBack", "Paused"])
@pytest.mark.parametrize("stable", [{"stable": OPEN}, {"stable": OPEN | {"generation": 7}}, {}])
def test_no_status_replaces_what_a_node_has(node: Generations, tmp_path: Path, state: str, stable: dict[str, Any]) -> None:
    heard(node, resource(1, spec("a.example.com")))
    item = resource(2, spec("b.example.com", **STAGES), {"generation": 2, "state": state} | stable)
    assert in_force(heard(node, item)) == (1, False)
    again = Generations(tmp_path, lambda: None)  # and after a start, from the disk
    again.resume(node.sources())
    assert in_force(heard(again, item)) == (1, False)


def test_what_was_complete_stays_so(node: Generations) -> None:
    said = spec("b.example.com", **STAGES)
    heard(node, resource(1, spec("a.example.com")))
    assert in_force(heard(node, resource(2, said, {"generation": 2, "state": "Complete"}))) == (2, False)
    back = heard(node, resource(2, said, {"generation": 2, "state": "RolledBack", "stable": OPEN}))
    assert in_force(back) == (2, False) and back.percent is None


def test_a_node_that_has_nothing_of_it_takes_what_was_before(node: Generations) -> None:
    before = {"generation": 1, "spec": spec("a.example.com")}
    said = {"generation": 2, "state": "Progressing", "stable": before}
    assert in_force(heard(node, resource(2, spec("b.example.com", **STAGES), said))) == (1, False)


def test_of_another_policy_of_that_name_nothing_stays(node: Generations) -> None:
    heard(node, resource(1, spec("a.example.com")))
    other = replace(resource(1, spec("b.example.com", **STAGES), {"generation": 1, "state": "Progressing"}), uid="other")
    assert heard(node, other).good is None
