"""Differences: what is not reported does not exist, what is reported is shown by a request, and another wording is no difference."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from framework.policies import policies, requests
from stockade.cli import main
from stockade.policy import Policy
from stockade.policy.model import Destination, Names
from stockade.policy.proof.diff import Change, diff
from stockade.policy.proof.reach import ANYTHING
from stockade.policy.question import ask
from stockade.types import Request

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def covers(change: Change, request: Request) -> bool:
    gain = change.gain
    return gain is not None and request.port in gain.ports and (request.method in gain.methods or ANYTHING in gain.methods)


@given(policies(), policies(), st.lists(requests(), min_size=20, max_size=40))
@settings(max_examples=70, deadline=None, suppress_health_check=SLOW)
def test_what_is_not_reported_does_not_exist(a: Policy, b: Policy, tried: list[Request]) -> None:
    changes = diff(a, b)
    for change in changes:
        if change.example is not None:
            assert not change.example.without.allowed and change.example.with_.allowed
    for request in tried:
        before, after = ask(request, a).decision.allowed, ask(request, b).decision.allowed
        if before != after:
            effect = "possible" if after else "impossible"
            assert any(change.effect == effect and covers(change, request) for change in changes), request


def reworded(policy: Policy) -> Policy:
    """Other names, and a rule for each binary, destination and method."""
    rules = []
    for rule in reversed(policy.rules):
        for binary, host, method in itertools.product(
            rule.binary.allow, rule.destination.allow, rule.method.allow if rule.method else [None]
        ):
            rules.append(
                dataclasses.replace(
                    rule,
                    name=f"s{len(rules)}",
                    position=len(rules),
                    binary=Names((binary,), rule.binary.deny),
                    destination=Destination((host,), rule.destination.deny, rule.destination.addresses),
                    method=Names((method,), rule.method.deny) if rule.method and method else None,
                )
            )
    return dataclasses.replace(policy, rules=tuple(rules))


@given(policies())
@settings(max_examples=70, deadline=None, suppress_health_check=SLOW)
def test_another_wording_is_no_difference(policy: Policy) -> None:
    assert diff(policy, reworded(policy)) == ()


@given(policies())
@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
def test_both_directions_say_the_same(policy: Policy) -> None:
    other = dataclasses.replace(policy, rules=policy.rules[1:])
    assume(other.rules)
    there, back = diff(policy, other), diff(other, policy)

    def told(changes: tuple[Change, ...], effect: str) -> set[tuple[frozenset[object], ...]]:
        gains = [change.gain for change in changes if change.gain and change.effect == effect]
        return {tuple(map(frozenset, (gain.who, gain.hosts, gain.ports, gain.methods, gain.on, gain.but))) for gain in gains}

    assert told(there, "possible") == told(back, "impossible")
    assert told(there, "impossible") == told(back, "possible")


HERE = "a.example.com, *.b.example.com, port 443"
PATHS = "on /v1/*, /v2/**, but not /v1/secret*"
BASE = """
    version: 1
    exec: {allow: [curl, git]}
    network:
      - name: api
        binary: {allow: [curl]}
        destination: {allow: [a.example.com, "*.b.example.com"]}
        port: 443
        method: {allow: [GET]}
        path: {allow: ["/v1/*", /v2/**], deny: [/v1/secret*]}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: api", "name: other", []),
        ('["/v1/*", /v2/**]', '[/v2/**, "/v1/*", /v1/items]', []),
        ("deny: [/v1/secret*]", "deny: [/v1/secret*, /v3/*]", []),
        (
            "[curl]}\n        d",
            "[curl, git]}\n        d",
            [f"+ git: GET to {HERE}, {PATHS}"],
        ),
        (
            "port: 443",
            "port: [443, 8443]",
            [f"+ curl: GET to a.example.com, *.b.example.com, port 8443, {PATHS}"],
        ),
        ("[GET]", "[GET, POST]", [f"+ curl: POST to {HERE}, {PATHS}"]),
        ("/v2/**]", "/v2/**, /v3]", ["+ curl: GET to a.example.com, *.b.example.com, port 443, on /v3"]),
        (", deny: [/v1/secret*]", "", ["+ curl: GET to a.example.com, *.b.example.com, port 443, on /v1/secret*"]),
        ("deny: [/v1/secret*]", "deny: [/V1/*]", ["- curl: GET to a.example.com, *.b.example.com, port 443, on /V1/*"]),
        (
            'b.example.com"]}',
            'b.example.com"], deny: [c.b.example.com]}',
            [f"- curl: GET to c.b.example.com:443, {PATHS}"],
        ),
        ('"*.b.example.com"', "x.b.example.com", [f"- curl: GET to *.b.example.com:443, {PATHS}"]),
        ("[curl, git]}", "[curl, make]}", ["+ may run: make", "- may run: git"]),
        (
            "exec: {",
            "exec: {unlisted: no-network, writable: true, env: [LD_PRELOAD], ",
            [
                "+ programs that no list names run, without any network (exec.unlisted: no-network)",
                "+ files that the sandbox can write may be executed (exec.writable)",
                "+ may be set for a binary with network rules: LD_PRELOAD",
            ],
        ),
        (
            "exec:",
            "mode: observe\n    on_audit_failure: continue\n    exec:",
            [
                "+ whatever is asked passes: mode is observe, and a denial is only recorded",
                "+ requests pass that could not be recorded (on_audit_failure: continue)",
            ],
        ),
        (
            "exec:",
            "filesystem: {write: [/srv], hide: [/usr/share], count: [/srv, /opt]}\n    "
            "process: {env: {A: '1', B: inherit}, user: agent}\n    exec:",
            [
                "~ can be written: only /srv, instead of what the default says",
                "- is seen: /usr/share",
                "~ opens are counted below /opt, /srv, instead of none",
                "~ runs as agent instead of its own user",
                "+ A is in the environment: '1'",
                "+ B is in the environment: inherited",
            ],
        ),
        (
            'b.example.com"]}',
            'b.example.com"], addresses: [10.0.0.0/8]}',
            [
                "~ a.example.com may resolve to these private addresses: 10.0.0.0/8, instead of any",
                "~ *.b.example.com may resolve to these private addresses: 10.0.0.0/8, instead of none",
            ],
        ),
        (
            '        method: {allow: [GET]}\n        path: {allow: ["/v1/*", /v2/**], deny: [/v1/secret*]}\n',
            "        tls: passthrough\n",
            ["+ curl: anything, unseen to a.example.com, *.b.example.com, port 443"],
        ),
    ],
)
def test_in_words(old: str, new: str, said: list[str], policy: Callable[[str], Policy]) -> None:
    assert old in BASE
    signs = {"possible": "+", "impossible": "-", "changed": "~"}
    changes = diff(policy(BASE), policy(BASE.replace(old, new)))
    assert [f"{signs[change.effect]} {change.text}" for change in changes] == said
    assert all(change.example is not None for change in changes if change.gain)


def test_the_verb(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["policy", "diff", "presets/pypi", "presets/pypi"]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["policy", "diff", "presets/github", "presets/github-push", "-o", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    pushed = next(change for change in answer["changes"] if change["effect"] == "possible" and change["area"] == "network")
    assert pushed["binaries"] == ["git"] and any("git-receive-pack" in glob for glob in pushed["on"])
    assert (pushed["example"]["before"]["decision"], pushed["example"]["after"]["decision"]) == ("deny", "allow")
    assert main(["policy", "diff", "presets/github", str(tmp_path / "absent.yaml")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_rego_that_differs_is_said_and_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.rego").write_text(f'deny {{ input.host == "{name}.example.com" }}\n')
        (tmp_path / f"{name}.yaml").write_text(f"version: 1\nexec: {{allow: [curl]}}\nrego: [{name}.rego]\n")
    assert main(["policy", "diff", str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]) == 1
    assert "the text of Rego differs" in capsys.readouterr().out
