"""`sandbox:NAME`: one spelling, which leads to one host; and nothing else leads there."""

from __future__ import annotations

import ipaddress
import pickle
from pathlib import Path

import pytest

from stockade.cli import main
from stockade.policy import Policy, PolicyError, decide, load
from stockade.policy.format.show import as_text
from stockade.policy.making.learn import learn
from stockade.policy.making.writing import as_yaml
from stockade.policy.neighbour import Neighbour, host_of, neighbour_of, spelt, visitor
from stockade.policy.proof.diff import diff
from stockade.policy.question import Target, parse_target
from stockade.types import Action, Binary, Effect, Outcome, Reason, Request
from unit.policy.trails import http, record

pytestmark = pytest.mark.usefixtures("own_judge")

CURL, PSQL = Binary.named("curl"), Binary.named("psql")
DB = "db.sandbox.stockade.internal"
POLICY = """\
version: 1
name: caller
inbound:
  - {port: 80, from: ["sandbox:Front_1", 10.0.0.0/8]}
network:
  - name: api
    binary: {allow: [curl]}
    destination: {allow: ["sandbox:db", "sandbox:a.b:81"], deny: ["sandbox:private"]}
    port: [8080]
    method: {allow: [GET]}
    path: {allow: [/v1/*]}
  - name: sql
    binary: {allow: [psql]}
    destination: {allow: ["sandbox:db:5432"]}
    protocol: tcp
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "policy.yaml").write_text(POLICY)
    return load([tmp_path / "policy.yaml"])


@pytest.mark.parametrize("name", ["db", "a.b", "x-1_y", "5432", "a" * 63])
def test_a_name_and_its_host(name: str) -> None:
    host = host_of(name)
    assert host.endswith(".sandbox.stockade.internal") and neighbour_of(host) == name and spelt(host) == f"sandbox:{name}"


@pytest.mark.parametrize("name", ["DB", "", "a..b", "a.", "-a", "_a", "a b", "a/b", "*", "a" * 64, "é"])
def test_what_no_host_can_be_called(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be dialled"):
        host_of(name)


@pytest.mark.parametrize(
    "host",
    [
        *("sandbox.stockade.internal", "stockade.internal", "db.stockade.internal", "db.sandbox.stockade.internal.example.com"),
        *("db", "_a.sandbox.stockade.internal"),
    ],
)
def test_other_hosts_are_none(host: str) -> None:
    assert neighbour_of(host) is None and spelt(host) == host


ASKED = {
    (CURL, DB, 8080, "GET", "/v1/x"): True,
    (CURL, DB, 8080, "POST", "/v1/x"): False,
    (CURL, DB, 8080, "GET", "/v2"): False,
    (CURL, DB, 5432, "GET", "/v1/x"): False,
    (CURL, "a.b.sandbox.stockade.internal", 81, "GET", "/v1/x"): True,
    (CURL, "a.b.sandbox.stockade.internal", 8080, "GET", "/v1/x"): False,
    (CURL, "b.sandbox.stockade.internal", 81, "GET", "/v1/x"): False,
    (CURL, "db", 8080, "GET", "/v1/x"): False,
    (PSQL, DB, 5432, None, None): True,
    (PSQL, DB, 8080, None, None): False,
}


@pytest.mark.parametrize("asked", ASKED)
def test_it_is_decided_as_any_host(policy: Policy, asked: tuple[Binary, str, int, str | None, str | None]) -> None:
    assert decide(Request(*asked), policy).allowed is ASKED[asked]


def test_a_denied_sandbox_is_vetoed(policy: Policy) -> None:
    decision = decide(Request(CURL, "private.sandbox.stockade.internal", 8080, "GET", "/v1/x"), policy)
    assert (decision.allowed, decision.reason) == (False, Reason.RULE_DENY)


@pytest.mark.parametrize(
    "wide",
    ["*.internal", "*.stockade.internal", "*.sandbox.stockade.internal", "*.db.sandbox.stockade.internal", DB, f"{DB}:8080", DB.upper()],
)
def test_no_other_spelling_is_taken(tmp_path: Path, wide: str) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace('"sandbox:db"', f'"{wide}"'))
    with pytest.raises(PolicyError, match=r"own_host|host_too_broad"):
        load([tmp_path / "policy.yaml"])


REGO = """\
allow if {
    input.binary == "curl"
    endswith(input.host, ".internal")
}
deny if input.path == "/v1/no"
"""


def test_rego_may_deny_and_not_allow(tmp_path: Path) -> None:
    (tmp_path / "r.rego").write_text(REGO)
    (tmp_path / "policy.yaml").write_text(POLICY + "rego: [./r.rego]\nexec: {allow: [curl, psql]}\n")
    policy = load([tmp_path / "policy.yaml"])
    asked = {
        ("other.internal", "/v1/x"): True,  # the control: what this Rego allows elsewhere
        (DB, "/v1/x"): True,
        (DB, "/v1/no"): False,
        (DB, "/v2"): False,
        ("other.sandbox.stockade.internal", "/v1/x"): False,
        ("other.stockade.internal", "/v1/x"): False,
    }
    assert {key: decide(Request(CURL, key[0], 8080, "GET", key[1]), policy).allowed for key in asked} == asked
    assert not decide(Request(CURL, "other.sandbox.stockade.internal"), policy).allowed, "its name does not resolve either"


def test_who_comes_in(policy: Policy) -> None:
    asked = {
        (80, "sandbox:Front_1"): True,
        (80, "sandbox:front_1"): False,
        (81, "sandbox:Front_1"): False,
        (80, "sandbox:db"): False,
        (80, "10.1.1.1"): True,
        (80, "127.0.0.1"): False,
    }
    assert {(port, who): policy.admits(port, visitor(who)) for port, who in asked} == asked
    again = pickle.loads(pickle.dumps(policy))  # noqa: S301 - as the worker is given it
    assert again.admits(80, Neighbour("Front_1")) and again.inbound == policy.inbound
    assert policy.inbound[0].networks == (ipaddress.ip_network("10.0.0.0/8"),)


def test_what_is_shown_loads_to_the_same(policy: Policy, tmp_path: Path) -> None:
    again = tmp_path / "again.yaml"
    again.write_text(as_text(policy))
    assert load([again]).inbound == policy.inbound and diff(policy, load([again])) == ()
    assert {pattern.value for pattern in load([again]).rules[0].destination.allow} == {DB, "a.b.sandbox.stockade.internal"}
    other = tmp_path / "other.yaml"
    other.write_text(POLICY.replace("sandbox:Front_1", "sandbox:b"))
    said = {(change.effect, change.text) for change in diff(policy, load([other]))}
    assert said == {("possible", "sandbox:b may connect to port 80"), ("impossible", "sandbox:Front_1 may connect to port 80")}


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("sandbox:db", Target(DB)),
        ("sandbox:db:5432", Target(DB, 5432)),
        (f"http://{DB}:8080/v1/x", Target(DB, 8080, "/v1/x")),
        ("sandbox:5432", Target("sandbox", 5432)),
    ],
)
def test_a_question_may_be_put_the_same_way(text: str, target: Target) -> None:
    assert parse_target(text) == target


def test_explain_and_policy_test(policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "policy.yaml")
    assert main(["explain", "--policy", file, "--binary", "psql", "sandbox:db:5432"]) == 0
    assert main(["explain", "--policy", file, "--binary", "psql", "sandbox:db:5433"]) == 1
    assert main(["explain", "--policy", file, "--binary", "curl", "sandbox:DB:1"]) == 2
    cases = f"""\
policy: ./policy.yaml
cases:
  - {{binary: psql, connect: "sandbox:db:5432", expect: allow, rule: sql}}
  - {{binary: curl, url: "http://{DB}:8080/v1/x", expect: allow, rule: api}}
  - {{binary: psql, dns: "sandbox:db", expect: allow, rule: sql}}
  - {{binary: curl, connect: "sandbox:private:8080", expect: deny, rule: api}}
"""
    (tmp_path / "policy_test.yaml").write_text(cases)
    capsys.readouterr()
    assert main(["policy", "test", str(tmp_path / "policy_test.yaml")]) == 0, capsys.readouterr()


def test_what_is_learnt_is_spelt_as_a_policy_spells_it(tmp_path: Path) -> None:
    found = learn(
        [
            http("GET", "/v1/x", DB, 8080),
            http("GET", "/approvals/abc", "stockade.internal", 80, allowed=True),
            record(Action.CONNECT, "sql.sandbox.stockade.internal", 5432, allowed=True, effect=Effect.RELAY),
        ],
        name="learnt",
    )
    (tmp_path / "learnt.yaml").write_text(as_yaml(found.policy))
    learnt = load([tmp_path / "learnt.yaml"])
    assert [rule.destination.allow[0].text for rule in learnt.rules] == ["sandbox:db", "sandbox:sql"]
    assert [(remark.code, "Stockade's own" in remark.message) for remark in found.remarks] == [("host", True)]
    assert decide(Request(Binary.named("curl", "/usr/bin/curl"), DB, 8080, "GET", "/v1/x"), learnt).outcome is Outcome.ALLOW
