"""What no record needed, and what a short trail does not say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.cli import main
from stockade.policy import Policy
from stockade.policy.making.unused import unused
from stockade.types import Action, Binary, Effect, Reason
from unit.policy.trails import CURL, PIP, http, record, trail

POLICY = """\
version: 1
name: observed
exec: {allow: [curl, pip, date], deny: [nc, wget]}
network:
  - name: api
    binary: {allow: [curl, pip]}
    destination: {allow: [api.example.com, www.example.com], deny: [bad.example.com, worse.example.com]}
    method: {allow: [GET, POST], deny: [DELETE, PUT]}
    path: {allow: [/a, "/b/*", /services/*/*/*], deny: [/b/secret, /b/never]}
  - name: other
    binary: {allow: [curl]}
    destination: {allow: [other.example.com, api.example.com]}
    method: {allow: [GET]}
    path: {allow: [/other]}
  - name: database
    binary: {allow: [curl]}
    destination: {allow: ["db.example.com:5432"]}
    protocol: tcp
"""
PASSED = {"allowed": True, "reason": Reason.RULE_ALLOW}
DENIED = {"enforced": True, "reason": Reason.RULE_DENY, "effect": Effect.REFUSE}


def said(policy: Policy, *records: dict[str, object]) -> list[str]:
    """Without where it stands."""
    return [str(one).partition(": ")[2] for one in unused(records, policy)]


def test_what_is_needed_and_what_is_not(policy: Callable[[str], Policy]) -> None:
    found = said(
        policy(POLICY),
        record(Action.EXEC, **PASSED),
        record(Action.EXEC, binary=Binary("nc", frozenset(), "/usr/bin/nc"), enforced=True, reason=Reason.EXEC_DENIED),
        record(Action.DNS, "api.example.com", **PASSED),
        record(Action.CONNECT, "api.example.com", 443, **PASSED),
        http("GET", "/b/x", **PASSED),
        http("DELETE", "/b/x", **DENIED),
        record(Action.EXEC, binary=Binary("date", frozenset({"date"}), "/usr/bin/date"), enforced=True, reason=Reason.EXEC_CHANGED),
        http("GET", "/b/secret", **DENIED),
        record(Action.DNS, "bad.example.com", **DENIED),
        record(Action.CONNECT, "db.example.com", 5432, effect=Effect.RELAY, **PASSED),
    )
    assert found == [
        "exec.allow pip: allowed nothing",
        "exec.allow date: allowed nothing",
        "exec.deny wget: refused nothing",
        "rule api: binary.allow pip: allowed nothing",
        "rule api: destination.allow www.example.com: allowed nothing",
        "rule api: destination.deny worse.example.com: refused nothing",
        "rule api: method.allow POST: allowed nothing",
        "rule api: method.deny PUT: refused nothing",
        "rule api: path.allow /a: allowed nothing",
        "rule api: path.allow /services/*/*/*: allowed nothing",
        "rule api: path.deny /b/never: refused nothing",
        "rule other: allowed nothing",
    ]


def test_a_name_and_a_connection_count_for_the_rule_that_let_the_request_pass(policy: Callable[[str], Policy]) -> None:
    """Both rules reach api.example.com; the look-up alone would speak for the first."""
    asked = [record(Action.DNS, "api.example.com", **PASSED), record(Action.CONNECT, "api.example.com", 443, **PASSED)]
    assert "rule api: allowed nothing" in said(policy(POLICY), *asked, http("GET", "/other", **PASSED))
    assert "rule api: destination.allow api.example.com: allowed nothing" not in said(policy(POLICY), *asked)


def test_what_was_observed_counts_and_what_was_refused_does_not(policy: Callable[[str], Policy]) -> None:
    needed = "rule api: path.allow /a: allowed nothing"
    assert needed not in said(policy(POLICY), http("GET", "/a"))
    assert needed in said(policy(POLICY), http("GET", "/a", enforced=True, reason=Reason.NO_RULE), http("GET", "/b/x", **PASSED))


def test_who_used_the_network_was_started_even_when_that_was_before_the_period(policy: Callable[[str], Policy]) -> None:
    assert "exec.allow curl: allowed nothing" not in said(policy(POLICY), http("GET", "/a", **PASSED))
    assert "exec.allow curl: allowed nothing" in said(policy(POLICY), http("GET", "/a", binary=PIP, **PASSED))


def test_a_masked_path_counts_for_each_path_it_may_stand_for(policy: Callable[[str], Policy]) -> None:
    found = said(policy(POLICY), http("POST", "/services/T0ABCDEF1/B0ABCDEF2/secret", **PASSED))
    assert "rule api: path.allow /services/*/*/*: allowed nothing" not in found


def test_a_binary_counts_under_every_name_of_its_files(policy: Callable[[str], Policy]) -> None:
    assert "rule api: binary.allow pip: allowed nothing" not in said(policy(POLICY), http("GET", "/a", binary=PIP, **PASSED))
    odd = Binary("my-curl", frozenset({"my-curl"}), "/usr/bin/curl", sha256="ef" * 32)
    assert "rule api: binary.allow curl: allowed nothing" not in said(policy(POLICY), http("GET", "/a", binary=odd, **PASSED))
    assert CURL.path == odd.path


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy, audit = tmp_path / "policy.yaml", tmp_path / "audit.jsonl"
    policy.write_text(POLICY)
    trail(audit, [http("GET", "/a", **PASSED), http("GET", "/b/x", **PASSED)])
    line = ["policy", "unused", "--policy", str(policy), "--audit", str(audit)]
    assert main([*line, "--since", "2026-11-20"]) == 1
    captured = capsys.readouterr()
    assert f"{policy}:10: rule other: allowed nothing\n" in captured.out
    assert f"{policy}:9: rule api: path.deny /b/never: refused nothing\n" in captured.out
    assert "by 2 records from 2026-11-27T09:01:00.000000Z to 2026-11-27T09:02:00.000000Z (0.0 days)" in captured.err
    assert "nothing is recorded in the first 7.4 days of the period" in captured.err
    assert main([*line, "-o", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["covered"] == {
        "records": 2,
        "first": "2026-11-27T09:01:00.000000Z",
        "last": "2026-11-27T09:02:00.000000Z",
        "of_this_policy": 2,
        "asked_since": "",
    }
    assert {"path": str(policy), "line": 10, "rule": "other", "entry": None, "why": "allowed nothing"} in answer["unused"]
    assert main([*line, "--until", "2026-11-01"]) == 2
    small = tmp_path / "small.yaml"
    small.write_text("""\
- {name: a, binary: {allow: [curl]}, destination: {allow: [api.example.com]}, method: {allow: [GET]}, path: {allow: [/a, "/b/*"]}}
""")
    capsys.readouterr()
    assert main(["policy", "unused", "--policy", str(small), "--audit", str(audit)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "none of these records was decided under a policy called small" in captured.err
