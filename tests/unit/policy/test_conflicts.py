"""Conflicts: no request disproves a warning, and the examples of tests/golden/policy get the ones that they are for."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.policies import policies, requests
from stockade.policy import Policy, decide
from stockade.policy.format.document import Findings, Place
from stockade.policy.format.origins import Origins
from stockade.policy.format.problems import Problem
from stockade.policy.hosts import parse_pattern
from stockade.policy.model import Destination, Names, Paths, Rule
from stockade.policy.paths import allow_list, deny_list
from stockade.policy.proof.conflicts import EXAMINED, conflicts
from stockade.types import Request


def placed(policy: Policy) -> Policy:
    """Each rule on the line of its number, from 1."""
    rules = tuple(dataclasses.replace(rule, place=Place("p.yaml", rule.position + 1, 1)) for rule in policy.rules)
    return dataclasses.replace(policy, rules=rules)


def warned(policy: Policy) -> list[Problem]:
    findings = Findings()
    conflicts(policy.rules, Origins(), findings)
    assert all(problem.severity == "warning" and problem.accepted for problem in findings.problems)
    return findings.problems


@given(policies(), st.lists(requests(), min_size=40, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_request_disproves_a_warning(policy: Policy, tried: list[Request]) -> None:
    policy = placed(policy)
    for problem in warned(policy):
        rule = policy.rules[problem.line - 1]
        others = dataclasses.replace(policy, rules=tuple(other for other in policy.rules if other is not rule))
        for request in tried:
            decision = decide(request, policy)
            if "allows nothing" in problem.message:
                assert not decision.allowed or decision.rule != rule.name, problem
            if "adds nothing" in problem.message:
                assert decision.allowed == decide(request, others).allowed, problem


def rule(name: str, position: int, **more: tuple[str, ...]) -> Rule:
    return Rule(
        name=name,
        position=position,
        place=Place("p.yaml", position + 1, 1),
        binary=Names(more.get("binary", ("curl",))),
        destination=Destination(
            tuple(map(parse_pattern, more.get("host", ("a.example.com",)))), tuple(map(parse_pattern, more.get("closed", ())))
        ),
        method=Names(more.get("method", ("GET",))),
        path=Paths(allow_list(more.get("path", ("/x",))), deny_list(more.get("denied", ()))),
        sha256=more.get("sha256", ()),
        ancestors=more.get("ancestors", ()),
    )


@pytest.mark.parametrize(
    ("first", "second", "codes"),
    [
        ({}, {}, ["unreachable"]),
        ({"binary": ("git",)}, {}, []),
        ({"binary": ("curl", "git")}, {"binary": ("git", "curl")}, ["unreachable"]),
        ({"path": ("/*",)}, {}, ["unreachable"]),
        ({}, {"path": ("/*",)}, []),
        ({"path": ("/*",)}, {"path": ("/**",)}, []),
        ({"sha256": ("1" * 64,)}, {}, []),
        ({}, {"sha256": ("1" * 64,)}, ["unreachable"]),
        ({"ancestors": ("bash",)}, {"ancestors": ("make",)}, []),
        ({"path": ("/y",), "denied": ("/X/*",)}, {}, ["contradiction"]),
        ({"path": ("/y",), "denied": ("/x/*",), "sha256": ("1" * 64,)}, {}, []),
        ({"path": ("/y",), "denied": ("/x/*",)}, {"sha256": ("1" * 64,)}, ["contradiction"]),
        ({"path": ("/y",), "denied": ("/x/*",)}, {"binary": ("/usr/bin/curl",)}, ["contradiction"]),
        ({"host": ("b.example.com",), "closed": ("*.example.com:443",)}, {}, []),
    ],
)
def test_two_rules(first: dict[str, tuple[str, ...]], second: dict[str, tuple[str, ...]], codes: list[str]) -> None:
    found = warned(Policy("", rules=(rule("one", 0, **first), rule("two", 1, **second))))
    assert [problem.code for problem in found if problem.line == 2] == codes


def test_a_thousand_rules_of_which_every_one_is_suspect_take_no_time() -> None:
    rules = tuple(rule(f"r{number}", number, host=("*.example.com", "a.example.com"), path=("/**",)) for number in range(1000))
    start = time.process_time()
    found = warned(Policy("", rules=rules))
    assert len(found) == EXAMINED
    assert time.process_time() - start < 5
