"""The decision as truth tables: what is asked, and the outcome, level, rule and reason that must come out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.policy import Policy, decide, load
from stockade.types import FORGOTTEN, Binary, Decision, Request

Read = Callable[[str], Policy]
EXAMPLES = Path(__file__).resolve().parents[3] / "policies" / "examples"


def ask(policy: Policy, binary: str, host: str, port: int | None = None, method: str | None = None, path: str | None = None) -> Decision:
    return decide(Request(Binary.named(binary), host, port, method, path), policy)


def brief(decision: Decision) -> str:
    return f"{decision.effect.value} {decision.level.value} {decision.rule} {decision.reason.value}"


SLACK = [
    ("curl", "api.slack.com", None, None, None, "pass destination slack-agent-policy rule_allow"),
    ("node", "files.slack.com", 443, None, None, "pass destination slack-agent-policy rule_allow"),
    ("curl", "api.slack.com", 80, None, None, "pass destination slack-agent-policy rule_allow"),
    ("curl", "api.slack.com", 443, "POST", "/api/chat.postMessage", "pass path slack-agent-policy rule_allow"),
    ("node", "api.slack.com", 443, "GET", "/api/conversations.history", "pass path slack-agent-policy rule_allow"),
    ("curl", "api.slack.com", 443, "GET", "/api/conversations.list", "pass path slack-agent-policy rule_allow"),
    ("curl", "api.slack.com", 443, "POST", None, "pass method slack-agent-policy rule_allow"),
    ("wget", "api.slack.com", None, None, None, "refuse binary None no_rule"),
    ("wget", "api.slack.com", 443, "POST", "/api/chat.postMessage", "refuse binary None no_rule"),
    ("curl", "attacker-c2.example.com", None, None, None, "refuse destination slack-agent-policy no_rule"),
    ("curl", "slack.com", 443, None, None, "refuse destination slack-agent-policy no_rule"),
    ("curl", "evil-api.slack.com", 443, None, None, "refuse destination slack-agent-policy no_rule"),
    ("curl", "api.slack.com", 8443, None, None, "refuse destination slack-agent-policy no_rule"),
    ("curl", "api.slack.com", 443, "DELETE", "/api/chat.postMessage", "refuse method slack-agent-policy no_rule"),
    ("curl", "api.slack.com", 443, "HEAD", "/api/conversations.list", "refuse method slack-agent-policy no_rule"),
    ("curl", "api.slack.com", 443, "post", "/api/chat.postMessage", "refuse method slack-agent-policy no_rule"),
    ("curl", "api.slack.com", 443, "POST", "/api/users.list", "refuse path slack-agent-policy no_rule"),
    ("curl", "api.slack.com", 443, "POST", "/api/chat.postMessage/", "refuse path slack-agent-policy no_rule"),
    ("curl", "api.slack.com", 443, "POST", "/api/admin.users.list", "refuse path slack-agent-policy rule_deny"),
    ("curl", "api.slack.com", 443, "POST", "/api/Admin.users/x", "refuse path slack-agent-policy rule_deny"),
    ("curl", "api.slack.com", 443, "POST", "/api/files.upload", "refuse path slack-agent-policy rule_deny"),
    ("curl", "api.slack.com", 443, "POST", "/api/users.admin.invite", "refuse path slack-agent-policy rule_deny"),
]


@pytest.mark.parametrize(("binary", "host", "port", "method", "path", "expected"), SLACK)
def test_the_slack_policy_as_written(binary: str, host: str, port: int | None, method: str | None, path: str | None, expected: str) -> None:
    assert brief(ask(load([EXAMPLES / "slack.yaml"]), binary, host, port, method, path)) == expected


HIPAA = """\
    - name: hipaa-clinical-notes
      binary:
        allow:
          - node
          - python3
      destination:
        allow:
          - ehr.internal.hospital.org
          - localhost # Local Nemotron inference only
        deny:
          - api.openai.com
          - api.anthropic.com
          - "*.amazonaws.com"
      method:
        allow:
          - GET
          - POST
        deny:
          - DELETE
          - PUT
      path:
        allow:
          - /api/v1/patients/*/notes
          - /api/v1/patients/*/vitals
        deny:
          - /api/v1/admin/*
          - /api/v1/patients/*/billing
    - name: another-preset
      binary: {allow: [node, curl]}
      destination: {allow: [api.openai.com, "*.amazonaws.com", ehr.internal.hospital.org]}
      method: {allow: [GET, DELETE]}
      path: {allow: [/**]}
"""


@pytest.mark.parametrize(
    ("binary", "host", "port", "method", "path", "expected"),
    [
        ("node", "api.openai.com", None, None, None, "refuse destination hipaa-clinical-notes rule_deny"),
        ("node", "api.openai.com", 443, None, None, "refuse destination hipaa-clinical-notes rule_deny"),
        ("node", "bedrock.us-east-1.amazonaws.com", 443, "GET", "/", "refuse destination hipaa-clinical-notes rule_deny"),
        ("curl", "api.openai.com", 443, "GET", "/v1", "pass path another-preset rule_allow"),
        ("node", "ehr.internal.hospital.org", 443, "POST", "/api/v1/patients/7/notes", "pass path hipaa-clinical-notes rule_allow"),
        ("node", "ehr.internal.hospital.org", 443, "DELETE", "/api/v1/patients/7", "refuse method hipaa-clinical-notes rule_deny"),
        ("node", "ehr.internal.hospital.org", 443, "GET", "/api/v1/admin", "refuse path hipaa-clinical-notes rule_deny"),
        ("node", "ehr.internal.hospital.org", 443, "GET", "/api/v1/Admin/a/b", "refuse path hipaa-clinical-notes rule_deny"),
        ("node", "ehr.internal.hospital.org", 443, "GET", "/api/v1/patients/7/billing", "refuse path hipaa-clinical-notes rule_deny"),
        ("node", "ehr.internal.hospital.org", 443, "GET", "/other", "pass path another-preset rule_allow"),
        ("python3", "ehr.internal.hospital.org", 443, "GET", "/other", "refuse path hipaa-clinical-notes no_rule"),
        ("python3", "localhost", 11434, None, None, "pass destination hipaa-clinical-notes rule_allow"),
        ("python3", "localhost", 8000, None, None, "pass destination hipaa-clinical-notes rule_allow"),
        ("python3", "localhost", 443, None, None, "refuse destination hipaa-clinical-notes no_rule"),
        ("node", "localhost", 11434, "GET", "/api/v1/patients/1/notes", "pass path hipaa-clinical-notes rule_allow"),
    ],
)
def test_a_deny_vetoes_what_another_rule_allows(
    policy: Read, binary: str, host: str, port: int | None, method: str | None, path: str | None, expected: str
) -> None:
    assert brief(ask(policy(HIPAA), binary, host, port, method, path)) == expected


PORTS = """\
    - name: web
      binary: {allow: [curl]}
      destination: {allow: [a.example.com, "b.example.com:8443", "*.c.example.com"]}
      port: [443, 9443]
      method: {allow: [GET]}
      path: {allow: [/**]}
    - name: database
      binary: {allow: [psql]}
      destination: {allow: [db.example.com, 10.1.2.0/24, "fd00:1::5"], deny: ["db.example.com:5433", 10.1.2.9]}
      port: [5432, 5433]
      protocol: tcp
    - name: pinned
      binary: {allow: [curl]}
      destination: {allow: [pinned.example.com, a.example.com]}
      tls: passthrough
"""


@pytest.mark.parametrize(
    ("binary", "host", "port", "expected"),
    [
        ("curl", "a.example.com", 9443, "pass destination web rule_allow"),
        ("curl", "a.example.com", 80, "refuse destination web no_rule"),
        ("curl", "b.example.com", 8443, "pass destination web rule_allow"),
        ("curl", "b.example.com", 443, "refuse destination web no_rule"),
        ("curl", "x.y.c.example.com", 443, "pass destination web rule_allow"),
        ("curl", "c.example.com", 443, "refuse destination web no_rule"),
        ("psql", "db.example.com", None, "relay destination database rule_allow"),
        ("psql", "db.example.com", 5432, "relay destination database rule_allow"),
        ("psql", "db.example.com", 5433, "refuse destination database rule_deny"),
        ("psql", "10.1.2.7", 5432, "relay destination database rule_allow"),
        ("psql", "10.1.2.9", 5432, "refuse destination database rule_deny"),
        ("psql", "10.1.3.7", 5432, "refuse destination database no_rule"),
        ("psql", "fd00:1::5", 5432, "relay destination database rule_allow"),
        ("curl", "pinned.example.com", 443, "relay destination pinned rule_allow"),
        ("curl", "pinned.example.com", 80, "refuse destination web no_rule"),
        ("curl", "a.example.com", 443, "pass destination web rule_allow"),  # inspection wins over `pinned`
        ("curl", "a.example.com", None, "pass destination web rule_allow"),
    ],
)
def test_ports_addresses_and_relays(policy: Read, binary: str, host: str, port: int | None, expected: str) -> None:
    assert brief(ask(policy(PORTS), binary, host, port)) == expected


def test_what_is_inspected_stays_inspected_for_a_host_that_is_relayed_too(policy: Read) -> None:
    assert brief(ask(policy(PORTS), "curl", "a.example.com", 443, "POST", "/")) == "refuse method web no_rule"


def test_method_and_path_count_only_within_one_rule(policy: Read) -> None:
    read = policy(
        """\
        - name: read
          binary: {allow: [curl]}
          destination: {allow: [a.example.com]}
          method: {allow: [GET]}
          path: {allow: [/read]}
        - name: write
          binary: {allow: [curl]}
          destination: {allow: [a.example.com]}
          method: {allow: [POST]}
          path: {allow: [/write]}
        """
    )
    assert ask(read, "curl", "a.example.com", 443, "GET", "/read").allowed
    assert brief(ask(read, "curl", "a.example.com", 443, "GET", "/write")) == "refuse path read no_rule"
    assert brief(ask(read, "curl", "a.example.com", 443, "POST", "/read")) == "refuse path write no_rule"
    assert brief(ask(read, "curl", "a.example.com", 443, "PUT", "/read")) == "refuse method read no_rule"


def test_a_binary_of_several_families_meets_the_rules_of_each(policy: Read) -> None:
    both = policy(PORTS)
    binary = Binary("curl", frozenset({"curl", "psql"}), "/usr/bin/curl")
    assert decide(Request(binary, "db.example.com", 5432), both).rule == "database"
    assert decide(Request(binary, "a.example.com", 443), both).rule == "web"


def test_a_denied_binary_is_vetoed_at_the_rules_destinations(policy: Read) -> None:
    denied = policy(
        """\
        - name: all-but-one
          binary: {allow: [curl], deny: [/opt/old/curl]}
          destination: {allow: [a.example.com]}
          method: {allow: [GET]}
          path: {allow: [/**]}
        """
    )
    old = Binary("curl", frozenset({"curl"}), "/opt/old/curl")
    assert brief(decide(Request(old, "a.example.com", 443), denied)) == "refuse binary all-but-one rule_deny"
    assert ask(denied, "curl", "a.example.com", 443).allowed


def test_observe_decides_the_same_and_enforces_nothing(policy: Read) -> None:
    text = "version: 1\nmode: observe\nnetwork:\n" + PORTS
    refused = ask(policy(text), "curl", "c.example.com", 443)
    assert (refused.allowed, refused.enforced, refused.passes) == (False, False, True)
    allowed = ask(policy(text), "curl", "a.example.com", 443)
    assert (allowed.allowed, allowed.enforced) == (True, True)
    assert not policy(text).may_exec(Binary.named("nc")).enforced


def test_a_decision_carries_the_generation(policy: Read) -> None:
    later = policy(PORTS).with_generation(7)
    assert ask(later, "curl", "a.example.com", 443).generation == ask(later, "nc", "a.example.com").generation == 7


def test_what_the_kernel_compiler_asks(policy: Read) -> None:
    ports = policy(PORTS)
    assert ports.ports_for("a.example.com") == (443, 9443)
    assert ports.ports_for("b.example.com") == (8443,)
    assert ports.ports_for("x.c.example.com") == (443, 9443)
    assert ports.ports_for("other.example.com") == ()
    assert ports.network_names() == {"curl", "psql"}
    assert policy(HIPAA).host_services() == (8000, 11434)
    assert policy(HIPAA).binary_names() == ("node", "python3", "curl")


LITERALS = """\
    - name: wide
      binary: {allow: [curl]}
      destination: {allow: [10.1.0.0/29, "fd00:1::5", named.example.com], deny: [10.1.0.0, 10.1.0.6/31, 192.168.0.0/16]}
      port: [443]
      method: {allow: [GET]}
      path: {allow: [/**]}
    - name: narrow
      binary: {allow: [psql]}
      destination: {allow: [10.1.0.4]}
      port: [5432]
      protocol: tcp
"""


def test_literal_networks_are_disjoint_and_each_has_one_answer(policy: Read) -> None:
    cut = policy(LITERALS)
    found = {str(network): ports for network, ports in cut.literals()}
    both = (443, 5432)
    assert found == {
        "10.1.0.0/32": (443,),  # denied to curl
        "10.1.0.1/32": (443,),
        "10.1.0.2/31": (443,),
        "10.1.0.4/32": both,
        "10.1.0.5/32": (443,),
        "10.1.0.6/31": (443,),  # denied to curl
        "fd00:1::5/128": (443,),
    }
    for network, ports in cut.literals():
        for binary in ("curl", "psql"):
            for port in ports:
                assert len({ask(cut, binary, str(address), port) for address in network}) == 1


def test_a_policy_travels_to_the_worker(policy: Read) -> None:
    copy = pickle.loads(pickle.dumps(policy(PORTS)))  # noqa: S301  (our own bytes, parent to child)
    assert [(rule.name, rule.binary, rule.destination, rule.path) for rule in copy.rules] == [
        (rule.name, rule.binary, rule.destination, rule.path) for rule in policy(PORTS).rules
    ]
    assert not copy.sources and not any(rule.place.path for rule in copy.rules), "where it was written stays at home"
    assert brief(ask(copy, "curl", "a.example.com", 443)) == "pass destination web rule_allow"


@pytest.mark.parametrize(
    ("names", "path", "expected"),
    [
        ({"curl"}, "/usr/bin/curl", "allow exec_allowed"),
        ({"coreutils"}, "/usr/bin/ls", "allow exec_allowed"),
        ({"coreutils"}, "/usr/bin/dd", "deny exec_denied"),
        ({"wget"}, "/usr/bin/wget", "deny exec_denied"),
        ({"nc"}, "/usr/bin/nc", "deny exec_unlisted"),
    ],
)
def test_what_may_run(policy: Read, names: set[str], path: str, expected: str) -> None:
    may = policy("version: 1\nexec: {allow: [curl, wget, coreutils], deny: [wget, dd]}\n").may_exec(Binary("x", frozenset(names), path))
    assert (may.level, f"{may.outcome} {may.reason}") == ("exec", expected)


def test_unlisted_programs_may_run_without_a_network(policy: Read) -> None:
    may = policy("version: 1\nexec: {allow: [curl], deny: [nc], unlisted: no-network}\n").may_exec
    assert may(Binary.named("built")).allowed
    assert not may(Binary.named("nc")).allowed


NARROWED = """\
    - name: from-bash
      binary: {allow: [curl]}
      destination: {allow: [a.example.com], deny: [b.example.com]}
      ancestors: [bash, /opt/agent/bin/*]
      method: {allow: [GET]}
      path: {allow: [/**]}
    - name: pinned
      binary: {allow: [git]}
      destination: {allow: [a.example.com], deny: [b.example.com]}
      sha256: [%s]
      method: {allow: [GET]}
      path: {allow: [/**]}
    - name: anybody
      binary: {allow: [curl, git]}
      destination: {allow: [b.example.com]}
      method: {allow: [GET]}
      path: {allow: [/**]}
""" % ("ab" * 32)


@pytest.mark.parametrize(
    ("ancestors", "host", "expected"),
    [
        (("/usr/bin/bash", "/usr/bin/node"), "a.example.com", "pass path from-bash rule_allow"),
        (("/opt/agent/bin/agent",), "a.example.com", "pass path from-bash rule_allow"),
        (("/tmp/bash",), "a.example.com", "refuse destination anybody no_rule"),
        ((), "a.example.com", "refuse destination anybody no_rule"),
        (None, "a.example.com", "pass path from-bash rule_allow"),  # not known yet: whoever knows decides again
        (("/usr/bin/bash",), "b.example.com", "refuse destination from-bash rule_deny"),
        (("/usr/bin/dash",), "b.example.com", "pass path anybody rule_allow"),
        (None, "b.example.com", "pass path anybody rule_allow"),  # unknown must not veto
    ],
)
def test_a_rule_may_ask_who_started_the_binary(ancestors: tuple[str, ...] | None, host: str, expected: str, policy: Read) -> None:
    request = Request(Binary.named("curl", "/usr/bin/curl"), host, 443, "GET", "/x", ancestors)
    assert brief(decide(request, policy(NARROWED))) == expected


@pytest.mark.parametrize(
    ("sha256", "expected"), [("ab" * 32, "pass path pinned rule_allow"), ("cd" * 32, "refuse destination anybody no_rule")]
)
def test_a_rule_may_ask_for_one_file_alone(sha256: str, expected: str, policy: Read) -> None:
    binary = Binary("git", frozenset({"git"}), "/usr/bin/git", sha256=sha256)
    assert brief(decide(Request(binary, "a.example.com", 443, "GET", "/x"), policy(NARROWED))) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("a.example.com", "refuse destination anybody no_rule"), ("b.example.com", "refuse destination from-bash rule_deny")],
)
def test_ancestors_that_are_forgotten_open_nothing_and_lift_no_veto(host: str, expected: str, policy: Read) -> None:
    request = Request(Binary.named("curl", "/usr/bin/curl"), host, 443, "GET", "/x", ("/usr/bin/env", FORGOTTEN))
    assert brief(decide(request, policy(NARROWED))) == expected


@pytest.mark.parametrize("spelling", ["127.0.0.1", "127.0.0.0/8", "'::1'", "'2130706433'"])
def test_a_deny_of_loopback_in_any_spelling_is_a_deny_of_localhost(spelling: str, policy: Read) -> None:
    text = f"""\
        - name: models
          binary: {{allow: [curl]}}
          destination: {{allow: [localhost]}}
          method: {{allow: [GET]}}
          path: {{allow: [/**]}}
        - name: never
          binary: {{allow: [curl]}}
          destination: {{allow: [a.example.com], deny: [{spelling}]}}
          method: {{allow: [GET]}}
          path: {{allow: [/**]}}
    """
    assert brief(ask(policy(text), "curl", "localhost", 11434)) == "refuse destination never rule_deny"
