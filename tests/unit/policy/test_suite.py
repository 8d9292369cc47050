"""Policy tests: their format with every mistake located, their verdicts with the nearest rule, their coverage, and what the verb prints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.policies import policies, requests
from stockade.cli import main
from stockade.policy import Policy, PolicyError, decide
from stockade.policy.cases.coverage import Entry, spoken
from stockade.policy.cases.nearest import nearest
from stockade.policy.cases.suite import Suite, read_suite
from stockade.policy.cases.testing import coverage
from stockade.policy.cases.testing import run as put
from stockade.policy.model import Destination, Names, Paths, Rule
from stockade.policy.paths import allow_list, deny_list
from stockade.policy.question import named_binary
from stockade.types import Level, Reason, Request

POLICY = """
    version: 1
    exec: {allow: [sh, curl, git], deny: [nc]}
    network:
      - name: api
        binary: {allow: [curl], deny: [wget]}
        destination: {allow: [api.example.com, "*.cdn.example.com"], deny: [bad.cdn.example.com]}
        port: 443
        method: {allow: [GET, POST], deny: [DELETE]}
        path: {allow: ["/v1/*", /status], deny: [/v1/admin/*]}
      - name: repo
        binary: {allow: [git]}
        destination: {allow: [git.example.com]}
        tls: passthrough
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a policy and its tests into the current directory; gives the test file."""
    monkeypatch.chdir(tmp_path)

    def files(cases: str, policy: str = POLICY) -> Path:
        Path("p.yaml").write_text(dedent(policy), encoding="utf-8")
        Path("p_test.yaml").write_text(dedent(cases), encoding="utf-8")
        return Path("p_test.yaml")

    return files


GOOD = """
    cases:
      - name: items
        binary: [curl, /usr/bin/curl]
        method: [GET, POST]
        url: [https://api.example.com/v1/x, "https://a.cdn.example.com:443/status?q=1"]
        expect: allow
        rule: api
        level: path
        reason: rule_allow
      - {binary: curl, method: DELETE, url: "https://api.example.com/v1/x", expect: deny, rule: api, level: method}
      - {binary: curl, url: "https://api.example.com/v1/admin%2Fx", expect: deny, rule: api, level: path}
      - {binary: curl, url: "https://api.example.com/%zz", expect: deny, rule: none, level: path, reason: path_invalid}
      - {binary: curl, url: "wss://api.example.com/status", expect: allow, rule: api}
      - {binary: wget, connect: "api.example.com:443", expect: deny, rule: api, level: binary}
      - {binary: curl, connect: "bad.cdn.example.com:443", expect: deny, rule: api, level: destination}
      - {binary: git, connect: "git.example.com:443", expect: allow, rule: repo}
      - {binary: git, dns: git.example.com, expect: allow, rule: repo}
      - {binary: python3, dns: git.example.com, expect: deny, rule: none, level: binary}
      - {exec: [/usr/bin/git, sh, curl], expect: allow, rule: none, level: exec}
      - {exec: nc, expect: deny, rule: none, reason: exec_denied}
"""


def test_a_suite_that_holds_and_reaches_everything(write: Write) -> None:
    suite = read_suite(write(GOOD))
    results = put(suite)
    assert [result.case.asked for result in results if not result.passed] == []
    assert len(results) == 8 + 9 + 4
    covered = coverage([(suite, results)])
    assert covered.unreached == () and covered.percent == 100 and covered.total == 2 + 11 + 2 + 4


BINARIES, METHODS, URLS = (", ".join(f"{text}{number}" for number in range(50)) for text in ("b", "M", "https://a.example.com/"))
FLOOD = f"{{binary: [{BINARIES}], method: [{METHODS}], url: [{URLS}], expect: deny, rule: none}}"


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("{binary: curl, url: 'https://a.example.com/', expect: allow}", "2:5 missing_key"),
        ("{binary: curl, url: 'https://a.example.com/', rule: api}", "2:5 missing_key"),
        ("{binary: curl, url: 'https://a.example.com/', expect: maybe, rule: api}", "2:59 bad_value"),
        ("{binary: curl, url: 'https://a.example.com/', expect: deny, rule: apy}", "2:71 unknown_rule"),
        ("{binary: curl, url: 'https://a.example.com/', expect: deny, rule: ~}", "2:71 wrong_type"),
        ("{binary: curl, url: 'https://a.example.com/', expect: deny, rule: none, level: host}", "2:84 bad_value"),
        ("{binary: curl, url: 'https://a.example.com/', expect: deny, rule: none, reason: because}", "2:85 bad_value"),
        ("{binary: curl, url: 'https://a.example.com/', expect: deny, rule: none, colour: red}", "2:77 unknown_key"),
        ("{binary: curl, expect: deny, rule: none}", "2:5 bad_case"),
        ("{binary: curl, dns: a.example.com, connect: 'a.example.com:1', expect: deny, rule: none}", "2:5 bad_case"),
        ("{url: 'https://a.example.com/', expect: deny, rule: none}", "2:5 missing_key"),
        ("{binary: curl, url: a.example.com, expect: deny, rule: none}", "2:25 bad_target"),
        ("{binary: curl, url: 'ftp://a.example.com/', expect: deny, rule: none}", "2:25 bad_target"),
        ("{binary: curl, url: 'https://u@a.example.com/', expect: deny, rule: none}", "2:25 bad_target"),
        ("{binary: curl, url: 'https://a.example.com:0/', expect: deny, rule: none}", "2:25 bad_target"),
        ("{binary: curl, connect: a.example.com, expect: deny, rule: none}", "2:29 bad_target"),
        ("{binary: curl, dns: 'a.example.com:53', expect: deny, rule: none}", "2:25 bad_target"),
        ("{binary: curl, dns: a.example.com, method: GET, expect: deny, rule: none}", "2:48 bad_case"),
        ("{binary: curl, exec: curl, expect: deny, rule: none}", "2:14 bad_case"),
        ("{exec: 'curl x', expect: deny, rule: none}", "2:12 bad_binary"),
        ("{exec: ./curl, expect: deny, rule: none}", "2:12 bad_binary"),
        ("{binary: curl, method: get, url: 'https://a.example.com/', expect: deny, rule: none}", "2:28 bad_method"),
        ("{binary: curl, method: POST, url: 'wss://a.example.com/', expect: deny, rule: none}", "2:28 bad_case"),
        ("{binary: curl, url: [], expect: deny, rule: none}", "2:25 empty_list"),
        ("{binary: curl, sha256: abc, dns: a.example.com, expect: deny, rule: none}", "2:28 bad_value"),
        pytest.param(FLOOD, "2:5 bad_case", id="flood"),
        ('{name: "a\\nb", binary: curl, dns: a.example.com, expect: deny, rule: none}', "2:12 bad_name"),
        ("{binary: curl, binary: git, dns: a.example.com, expect: deny, rule: none}", "2:20 duplicate_key"),
        ("just text", "2:5 wrong_type"),
    ],
)
def test_every_mistake_has_its_place(case: str, problem: str, write: Write) -> None:
    with pytest.raises(PolicyError) as error:
        read_suite(write(f"cases:\n  - {case}\n"))
    assert [f"{found.line}:{found.column} {found.code}" for found in error.value.problems] == [problem]
    assert all(found.path == "p_test.yaml" for found in error.value.problems)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("[]", ["wrong_type"]),
        ("policy: p.yaml\n", ["missing_key"]),
        ("cases: {}\n", ["wrong_type"]),
        ("policy: absent.yaml\ncases: []\n", ["unreadable"]),
        ("policy: presets/absent\ncases: []\n", ["unknown_preset"]),
        ("policy: [p.yaml]\ncases: &x []\n", ["anchor"]),
        ("cases: [\n", ["syntax"]),
    ],
)
def test_a_file_that_is_no_suite(text: str, codes: list[str], write: Write) -> None:
    with pytest.raises(PolicyError) as error:
        read_suite(write(text))
    assert [found.code for found in error.value.problems] == codes


def test_all_mistakes_at_once(write: Write) -> None:
    with pytest.raises(PolicyError) as error:
        read_suite(write("cases:\n  - {binary: curl, expect: deny, rule: none}\n  - {exec: a b, expect: x, rule: y}\n"))
    assert [found.code for found in error.value.problems] == ["bad_case", "bad_value", "unknown_rule", "bad_binary"]


@pytest.mark.parametrize(
    ("binary", "method", "host", "port", "path", "said"),
    [
        ("curl", "GET", "api.example.com", 443, "/v2", "api fell at path: it allows /v1/*, /status"),
        ("curl", "GET", "api.example.com", 443, "/v1/admin/x", "api fell at path: it denies /v1/admin/*"),
        ("curl", "PUT", "api.example.com", 443, "/v1/x", "api fell at method: it allows GET, POST"),
        ("curl", "DELETE", "api.example.com", 443, "/v1/x", "api fell at method: it denies DELETE"),
        ("curl", "GET", "api.example.com", 8443, "/v1/x", "api fell at destination: it allows port 443 there"),
        ("curl", "GET", "bad.cdn.example.com", 443, "/v1/x", "api fell at destination: it denies bad.cdn.example.com"),
        (
            "curl",
            "GET",
            "x.example.com",
            443,
            "/",
            "api fell at destination: it allows api.example.com, *.cdn.example.com",
        ),
        ("wget", "GET", "api.example.com", 443, "/", "api fell at binary: it denies wget"),
        ("sh", "GET", "git.example.com", 443, "/", "api fell at binary: it allows curl"),
        ("git", "GET", "git.example.com", 443, "/", "repo relays it without looking inside"),
        ("curl", "GET", "api.example.com", 443, "/status", "api allows it"),
    ],
)
def test_the_nearest_rule(
    binary: str, method: str, host: str, port: int, path: str, said: str, policy: Callable[[str], Policy], tmp_path: Path
) -> None:
    loaded = policy(POLICY)
    found = nearest(Request(named_binary(binary, loaded), host, port, method, path), loaded)
    place = tmp_path / "policy.yaml"
    assert str(found).replace(f"rule api ({place}:5)", "api").replace(f"rule repo ({place}:11)", "repo") == said


def test_denied_for_another_reason_is_a_failure(write: Write) -> None:
    case = '{binary: curl, url: "https://api.example.com/v1/admin/x", expect: deny, rule: %s%s}'
    for rule, more, passed in (
        ("api", "", True),
        ("none", "", False),
        ("repo", "", False),
        ("api", ", level: method", False),
        ("api", ", reason: no_rule", False),
    ):
        (result,) = put(read_suite(write(f"cases:\n  - {case % (rule, more)}\n")))
        assert result.passed is passed and bool(result.nearest) is not passed


def test_hashes_and_ancestors(write: Write) -> None:
    narrowed = f"        tls: passthrough\n        sha256: ['{'a' * 64}']\n        ancestors: [bash]\n"
    policy = POLICY.replace("        tls: passthrough\n", narrowed)
    cases = f"""
        cases:
          - {{binary: git, sha256: "{"a" * 64}", ancestors: [/usr/bin/bash], connect: "git.example.com:443", expect: allow, rule: repo}}
          - {{binary: git, sha256: "{"a" * 64}", connect: "git.example.com:443", expect: allow, rule: repo}}
          - {{binary: git, sha256: "{"a" * 64}", ancestors: make, connect: "git.example.com:443", expect: deny, rule: none, level: binary}}
          - {{binary: git, sha256: "{"b" * 64}", ancestors: [bash], connect: "git.example.com:443", expect: deny, rule: none}}
    """
    results = put(read_suite(write(cases, policy)))
    assert [result.decision for result in results if not result.passed] == []


def test_what_rego_says_is_the_rule_rego(write: Write) -> None:
    test = write(
        'cases:\n  - {binary: curl, url: "https://b.example.com/", expect: allow, rule: rego, reason: rego_allow}\n',
        "version: 1\nexec: {allow: [curl]}\nrego: [p.rego]\n",
    )
    Path("p.rego").write_text('allow { input.binary == "curl"; input.host == "b.example.com" }\n')
    assert [result.passed for result in put(read_suite(test))] == [True]


# What spoke.


def only(rule: Rule, entries: frozenset[Entry]) -> Rule:
    """The rule with no allowing entry but these."""

    def kept(level: Level, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for text in texts if Entry(rule.name, level, "allow", text) in entries)

    hosts = kept(Level.DESTINATION, tuple(pattern.text for pattern in rule.destination.allow))
    return dataclasses.replace(
        rule,
        binary=Names(kept(Level.BINARY, rule.binary.allow), rule.binary.deny),
        destination=Destination(tuple(p for p in rule.destination.allow if p.text in hosts), rule.destination.deny),
        method=rule.method and Names(kept(Level.METHOD, rule.method.allow), rule.method.deny),
        path=rule.path and Paths(allow_list(kept(Level.PATH, rule.path.allow.globs)), rule.path.deny),
    )


def without(rule: Rule, entries: frozenset[Entry]) -> Rule:
    """The rule without these denying entries."""

    def kept(level: Level, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for text in texts if Entry(rule.name, level, "deny", text) not in entries)

    hosts = kept(Level.DESTINATION, tuple(pattern.text for pattern in rule.destination.deny))
    return dataclasses.replace(
        rule,
        binary=Names(rule.binary.allow, kept(Level.BINARY, rule.binary.deny)),
        destination=Destination(rule.destination.allow, tuple(p for p in rule.destination.deny if p.text in hosts)),
        method=rule.method and Names(rule.method.allow, kept(Level.METHOD, rule.method.deny)),
        path=rule.path and Paths(rule.path.allow, deny_list(kept(Level.PATH, rule.path.deny.globs))),
    )


@given(policies(), st.lists(requests(), min_size=40, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_what_spoke_is_enough_to_allow_and_needed_to_deny(policy: Policy, tried: list[Request]) -> None:
    for request in tried:
        decision = decide(request, policy)
        entries = spoken(request, policy)
        if decision.reason not in (Reason.RULE_ALLOW, Reason.RULE_DENY):
            assert not entries
            continue
        assert {entry.rule for entry in entries} == {decision.rule}
        change = only if decision.allowed else without
        rules = tuple(change(rule, entries) if rule.name == decision.rule else rule for rule in policy.rules)
        again = decide(request, dataclasses.replace(policy, rules=rules))
        same = (again.rule, again.level, again.reason) == (decision.rule, decision.level, decision.reason)
        assert same is decision.allowed


# The verb.


def test_the_verb_is_deterministic_and_green(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD)
    for output in ("text", "json", "junit"):
        assert main(["policy", "test", "p.yaml", "--coverage", "-o", output]) == 0
        once = capsys.readouterr().out
        assert main(["policy", "test", "p_test.yaml", "--coverage", "-o", output]) == 0
        assert capsys.readouterr().out == once
    assert main(["policy", "test", "."]) == 0
    assert capsys.readouterr().out == "21 passed, 0 failed, in 1 files\n"


def test_a_miss_says_what_came_and_which_rule_was_nearest(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write('cases:\n  - {name: writes, binary: curl, method: PUT, url: "https://api.example.com/v1/x", expect: allow, rule: api}\n')
    assert main(["policy", "test", "p.yaml"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "p_test.yaml:2: FAIL writes",
        "    asked     curl PUT https://api.example.com/v1/x",
        "    expected  allow, rule api",
        "    came      deny, rule api, level method, reason no_rule",
        "    nearest   rule api (p.yaml:5) fell at method: it allows GET, POST",
        "0 passed, 1 failed, in 1 files",
    ]


def test_coverage_lists_what_no_case_reaches_with_its_line(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write('cases:\n  - {binary: curl, url: "https://api.example.com/v1/x", expect: allow, rule: api}\n')
    assert main(["policy", "test", "p.yaml"]) == 0
    capsys.readouterr()
    assert main(["policy", "test", "p.yaml", "--coverage"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert "p.yaml:9: rule api: method.allow POST is reached by no case" in out
    assert "p.yaml:12: rule repo is reached by no case" in out
    assert "p.yaml:3: exec.deny nc is reached by no case" in out
    assert not any("/v1/*" in line for line in out)
    assert main(["policy", "test", "p.yaml", "--coverage", "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["coverage"]["percent"] < 50


def test_no_tests_are_a_failure(write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    test = write("cases: []\n")
    assert main(["policy", "test", "p.yaml"]) == 1
    assert "p_test.yaml: has no cases" in capsys.readouterr().out
    test.unlink()
    assert main(["policy", "test", "p.yaml"]) == 1
    assert "p.yaml: has no tests" in capsys.readouterr().out
    assert main(["policy", "test", "p.yaml", "--coverage"]) == 1
    assert "coverage" not in capsys.readouterr().out  # of nothing it would be 100 %
    assert main(["policy", "test", str(tmp_path)]) == 1
    assert "no test was run" in capsys.readouterr().out


def test_what_does_not_load_is_no_pass_and_stops_nobody_else(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD)
    Path("broken_test.yaml").write_text("policy: p.yaml\ncases: [{}]\n")
    assert main(["policy", "test", "."]) == 2
    out = capsys.readouterr().out
    assert "broken_test.yaml:2:9" in out and "21 passed" in out
    assert main(["policy", "test", "absent.yaml"]) == 2
    assert "cannot read absent.yaml" in capsys.readouterr().out


def test_junit_counts_what_failed(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD + "      - {binary: curl, dns: x.example.com, expect: allow, rule: api}\n".replace("      -", "      -", 1))
    Path("broken_test.yaml").write_text("cases: [\n")
    assert main(["policy", "test", ".", "-o", "junit", "--coverage"]) == 2
    root = ElementTree.fromstring(capsys.readouterr().out)
    assert root.tag == "testsuites" and (root.get("tests"), root.get("failures"), root.get("errors")) == ("24", "1", "1")
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("errors", "")) == len(suite.findall("testcase/error"))
    (failure,) = root.iter("failure")
    assert "nearest rule api" in (failure.text or "")


def test_a_preset_is_named_as_in_extends(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", "presets/pypi", "--coverage"]) == 0
    assert "coverage 100 %" in capsys.readouterr().out


def test_what_a_policy_extends_is_for_its_own_tests(write: Write) -> None:
    suite: Suite = read_suite(
        write(
            'cases:\n  - {binary: pip, method: POST, url: "https://pypi.org/simple/", expect: allow, rule: pypi-index}\n',
            "version: 1\nextends: [presets/pypi]\noverride: {pypi-index: {method: {allow: [GET, POST]}}}\n",
        )
    )
    covered = coverage([(suite, put(suite))])
    assert [str(item) for item in covered.unreached] == ["p.yaml:3: rule pypi-index: method.allow GET"]


PRIVATE = """\
version: 1
privacy:
  routes:
    - {name: minis, when: [pii.person], model: "*-mini", sandbox: "lab*", then: deny}
    - {name: people, when: [pii.*], endpoint: "*.example.com", then: pass}
  local: {url: "http://localhost:11434", model: m, context: 1}
  residency: {eu.example.com: EU}
  require_residency: {financial.iban: [EU]}
"""


@pytest.mark.parametrize(
    ("case", "met"),
    [
        ("{call: api.openai.com, expect: pass, rule: none}", True),
        ("{call: api.openai.com, holds: [pii.person], expect: redact, rule: 'default:persons', reason: privacy_default}", True),
        ("{call: api.openai.com, holds: [pii.person], expect: pass, rule: none}", False),
        ("{call: api.openai.com, holds: [pii.person], expect: redact, rule: people}", False),
        ("{call: API.example.com., holds: [pii.person], expect: pass, rule: people}", True),
        ("{call: api.example.com, holds: [pii.person], model: gpt-mini, sandbox: lab1, expect: deny, rule: minis}", True),
        ("{call: api.example.com, holds: [pii.person], model: gpt-mini, sandbox: ward, expect: pass, rule: people}", True),
        ("{call: eu.example.com, holds: [financial.iban], expect: redact, rule: 'default:persons'}", True),
        (
            "{call: api.openai.com, holds: [financial.iban], expect: deny, rule: 'require_residency:financial.iban'}",
            True,
        ),
        ("{call: api.openai.com, holds: [phi.clinical], expect: local, rule: 'default:patients'}", True),  # however long it is
    ],
)
def test_what_becomes_of_a_call_of_a_model_is_tested(case: str, met: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "private.yaml").write_text(PRIVATE)
    (tmp_path / "private_test.yaml").write_text(f"cases:\n  - {case}\n")
    assert main(["policy", "test", str(tmp_path / "private.yaml")]) == (0 if met else 1)
    if not met:
        assert "came      redact, rule default:persons, level privacy, reason privacy_default" in capsys.readouterr().out


def test_what_of_the_routes_no_case_reaches_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "private.yaml").write_text(PRIVATE)
    case = "{call: api.example.com, holds: [pii.person], expect: pass, rule: people}"
    (tmp_path / "private_test.yaml").write_text(f"cases:\n  - {case}\n")
    assert main(["policy", "test", "--coverage", str(tmp_path / "private.yaml")]) == 1
    said = capsys.readouterr().out
    assert "private.yaml:4: privacy.routes.when minis pii.person is reached by no case" in said and "people" not in said
