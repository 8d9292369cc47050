"""The examples decide as the tests beside them say, also for whoever asks `explain`, which is how a reader tries them."""

from __future__ import annotations

import json

import pytest

from stockade import resources
from stockade.cli import main
from stockade.policy.cases.suite import Case, read_suite

EXAMPLES = resources.POLICIES / "examples"
CASES = [
    pytest.param(name, case, id=f"{name}-{case.asked.replace(' ', '-')}")
    for name in ("hipaa", "slack", "git-https", "clinical", "eu-finance")
    for case in read_suite(EXAMPLES / f"{name}_test.yaml").cases
    if case.target is not None  # `explain` is about requests
]


def test_every_entry_of_every_example_is_tested() -> None:
    assert main(["policy", "test", "--coverage", str(EXAMPLES)]) == 0


@pytest.mark.parametrize(("name", "case"), CASES)
def test_explain_says_what_the_policy_test_says(name: str, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    method = ["--method", case.method] if case.method else []
    words = ["explain", "--policy", str(EXAMPLES / f"{name}.yaml"), "--binary", case.binary, *method, case.asked.split()[-1], "-o", "json"]
    status = main(words)
    answer = json.loads(capsys.readouterr().out)
    expected = case.expected
    assert status == (0 if expected.outcome == "allow" else 1)
    assert (answer["decision"], answer["rule"]) == (expected.outcome, expected.rule)
    assert answer["level"] == (expected.level or answer["level"]) and answer["reason"] == (expected.reason or answer["reason"])
