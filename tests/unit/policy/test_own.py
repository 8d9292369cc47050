"""stockade.internal: nobody's to allow and nobody's to deny."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.policy import Policy, PolicyError, decide, load
from stockade.policy.own import HOST
from stockade.types import Binary, Level, Reason, Request

CURL = Binary.named("curl")
RULE = """- name: own
  binary: {allow: [curl], deny: [git]}
  destination: {%s}
  method: {allow: [POST], deny: [GET]}
  path: {allow: ["/**"], deny: ["/approvals/*"]}
"""


@pytest.fixture(params=["allow: [a.example]", "allow: ['*.internal.example']", "allow: [a.example], deny: ['*.internal']"])
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> Policy:
    (tmp_path / "policy.yaml").write_text(RULE % request.param)
    return load([tmp_path / "policy.yaml"], generation=7)


@pytest.mark.parametrize(
    ("port", "method", "path", "level"),
    [
        (None, None, None, Level.DESTINATION),
        (80, None, None, Level.DESTINATION),
        (80, "GET", None, Level.METHOD),
        (80, "GET", "/approvals/k3x9", Level.PATH),
    ],
)
def test_every_binary_may_read_it(policy: Policy, port: int | None, method: str | None, path: str | None, level: Level) -> None:
    for name in ("curl", "git", "anything"):
        decision = decide(Request(Binary.named(name), HOST, port, method, path), policy)
        assert decision.allowed and (decision.level, decision.rule, decision.generation) == (level, HOST, 7)


@pytest.mark.parametrize(
    ("port", "method", "path", "level"),
    [
        (443, None, None, Level.DESTINATION),
        (8080, "GET", "/approvals/x", Level.DESTINATION),
        (80, "POST", None, Level.METHOD),
        (80, "HEAD", "/approvals/x", Level.METHOD),
        (80, "GET", "/", Level.PATH),
        (80, "GET", "/approvals/", Level.PATH),
        (80, "GET", "/approvals/x/y", Level.PATH),
        (80, "GET", "/approvals/X", Level.PATH),
        (80, "GET", "/approvals/" + "x" * 33, Level.PATH),
    ],
)
def test_and_nothing_else_of_it(policy: Policy, port: int, method: str | None, path: str | None, level: Level) -> None:
    decision = decide(Request(CURL, HOST, port, method, path), policy)
    assert not decision.passes and (decision.level, decision.reason) == (level, Reason.NO_RULE)


def test_a_process_without_a_network_identity_has_none_here(policy: Policy) -> None:
    assert not decide(Request(Binary("x", frozenset(), "/tmp/x"), HOST), policy).passes


def test_names_around_it_are_the_policys(policy: Policy) -> None:
    for host in ("x.stockade.internal", "stockade.internal.example", "internal"):
        assert decide(Request(CURL, host, 80), policy).rule != HOST


@pytest.mark.parametrize("lists", [f"allow: [{HOST}]", f"allow: ['{HOST}:80']", "allow: [a.example], deny: [STOCKADE.internal.]"])
def test_a_policy_does_not_name_it(tmp_path: Path, lists: str) -> None:
    (tmp_path / "policy.yaml").write_text(RULE % lists)
    with pytest.raises(PolicyError) as caught:
        load([tmp_path / "policy.yaml"])
    (problem,) = caught.value.problems
    assert (problem.code, problem.line) == ("own_host", 3)
