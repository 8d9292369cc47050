"""Rego beside the rules: what it may allow, what it may never lift, and that whatever goes wrong with it denies."""

from __future__ import annotations

import ipaddress
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.policy import Policy, PolicyError, decide, load, refused_range
from stockade.policy.rego import judge
from stockade.policy.rego.module import Scope
from stockade.types import Binary, Request

pytestmark = pytest.mark.usefixtures("own_judge")

SEED = Path(__file__).resolve().parents[3] / "policies" / "examples" / "rego.yaml"
CURL, GIT = Binary.named("curl"), Binary.named("git")

RULES = """\
network:
  - name: web
    binary: {allow: [curl]}
    destination: {allow: [a.example.com], deny: [b.example.com]}
    method: {allow: [GET], deny: [DELETE]}
    path: {allow: [/v1/**], deny: [/v1/secret/*]}
  - name: relay
    binary: {allow: [curl]}
    destination: {allow: [relay.example.com]}
    tls: passthrough
"""

type Write = Callable[..., Policy]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(rego: str, *, rules: str = "", allow: str = "curl, git, sh", mode: str = "enforce") -> Policy:
        (tmp_path / "r.rego").write_text(rego)
        (tmp_path / "p.yaml").write_text(
            f"version: 1\nname: p\nmode: {mode}\nexec: {{allow: [{allow}]}}\nrego: [r.rego]\nlabels: {{team: red}}\n{rules}"
        )
        return load([tmp_path / "p.yaml"])

    return make


def ask(policy: Policy, binary: str, host: str, port: int | None = 443, method: str | None = None, path: str | None = None) -> str:
    decision = decide(Request(Binary.named(binary), host, port, method, path), policy)
    return f"{decision.outcome} {decision.effect} {decision.level} {decision.rule} {decision.reason}"


def test_the_seeds_text_decides_as_it_says() -> None:
    policy = load([SEED])
    assert ask(policy, "git", "github.com", 443, "GET", "/o/r") == "allow pass path rego rego_allow"
    assert ask(policy, "git", "github.com", 80, "GET", "/o/r") == "deny refuse destination rego no_rule"
    assert ask(policy, "curl", "api.slack.com", 443, "POST", "/api/chat.postMessage") == "allow pass path rego rego_allow"
    assert ask(policy, "curl", "api.slack.com", 443, "POST", "/api/files.upload") == "deny refuse path rego no_rule"
    assert ask(policy, "sh", "github.com", 443, "GET", "/o/r") == "deny refuse binary None no_rule"


def test_before_there_is_a_method_only_what_fits_a_body_goes_on() -> None:
    policy = load([SEED])
    assert ask(policy, "git", "github.com", None) == ask(policy, "git", "github.com") == "allow pass destination rego rego_pending"
    assert ask(policy, "git", "github.com", 22) == "deny refuse destination rego no_rule"
    assert ask(policy, "curl", "github.com") == "deny refuse destination rego no_rule"
    assert policy.ports_for("github.com") == (443,) and policy.ports_for("api.slack.com") == (80, 443)
    assert policy.network_names() == {"git", "curl"}


def test_rules_and_rego_each_allow_and_each_veto(write: Write) -> None:
    policy = write(
        'allow { input.host == "c.example.com" }\ndeny { input.path == "/v1/off" }\nallow { input.path == "/v1/secret/x" }\n', rules=RULES
    )
    assert ask(policy, "curl", "a.example.com", 443, "GET", "/v1/x") == "allow pass path web rule_allow"
    assert ask(policy, "curl", "c.example.com", 443, "PUT", "/any") == "allow pass path rego rego_allow"
    assert ask(policy, "curl", "a.example.com", 443, "GET", "/v1/off") == "deny refuse path rego rego_deny"
    assert ask(policy, "curl", "c.example.com", 443, "GET", "/v1/off") == "deny refuse path rego rego_deny"
    assert ask(policy, "curl", "a.example.com", 443, "GET", "/v1/secret/x") == "deny refuse path web rule_deny"
    assert ask(policy, "curl", "b.example.com", None) == "deny refuse destination web rule_deny"


def test_what_may_not_run_is_allowed_nothing(write: Write) -> None:
    policy = write("allow { true }\n", allow="git")
    assert ask(policy, "git", "a.example.com", 443, "GET", "/") == "allow pass path rego rego_allow"
    assert ask(policy, "curl", "a.example.com", 443, "GET", "/") == "deny refuse binary None no_rule"
    assert policy.network_names() == {"git"}


def test_a_relayed_connection_is_judged_without_method_and_path(write: Write) -> None:
    policy = write('deny { input.host == "relay.example.com"; input.port == 443 }\n', rules=RULES)
    assert ask(policy, "curl", "relay.example.com", None) == "allow relay destination relay rule_allow"
    assert ask(policy, "curl", "relay.example.com") == "deny refuse destination rego rego_deny"
    judge.use(None)  # as in the agent, which leaves it to the worker
    assert ask(policy, "curl", "relay.example.com") == "allow relay destination relay rule_allow"
    assert ask(policy, "curl", "a.example.com", 443, "GET", "/v1/x") == "deny refuse path rego rego_error"


@pytest.mark.parametrize(
    "rego",
    [
        'import rego.v1\ndefault allow := false\nallow if input.labels.team == "red"\n',
        'allow if { input.labels["team"] == "red" }\n',
        'package stockade\n\nallow = true { input.labels.team == "red" }\n',
        'import future.keywords\nallow if { some team in ["red"]; input.labels.team == team }\n',
        'allow { input.binary == "curl"; net.cidr_contains("10.0.0.0/8", "10.1.2.3"); glob.match("*.example.com", ["."], input.host) }\n',
        "default allow = true\n",
    ],
)
def test_both_versions_of_the_language(rego: str, write: Write) -> None:
    assert ask(write(rego), "curl", "a.example.com", 443, "GET", "/") == "allow pass path rego rego_allow"


@pytest.mark.parametrize(
    ("rego", "why"),
    [
        ('allow = "yes" { true }\n', "another type"),
        ('allow = true { input.port == 443 }\nallow = false { input.binary == "curl" }\n', "two values"),
        ('n := numbers.range(1, 3000)\nallow { input.binary == "curl"; x := n[_]; y := n[_]; z := n[_]; x + y + z == 1 }\n', "too long"),
        ('allow { input.binary == "curl"; count(numbers.range(1, 100000000)) > 0 }\n', "too much memory"),
        ('import data.lib\nallow { input.binary == "curl"; lib.f(1) }\n', "no such function"),
        ("allow { true }\ndeny = 3 { true }\n", "a number that denies"),
    ],
)
def test_what_gives_no_answer_denies(rego: str, why: str, write: Write) -> None:
    policy = write(rego)
    assert ask(policy, "curl", "a.example.com", 443, "GET", "/") == "deny refuse path rego rego_error", why
    fine = write('allow { input.binary == "curl" }\n')
    assert ask(fine, "curl", "a.example.com", 443, "GET", "/") == "allow pass path rego rego_allow", "the next question is answered"


def test_a_set_of_reasons_denies(write: Write) -> None:
    policy = write('import rego.v1\nallow if true\ndeny contains "no plain http" if input.port == 80\n')
    assert ask(policy, "curl", "a.example.com", 80, "GET", "/") == "deny refuse path rego rego_deny"
    assert ask(policy, "curl", "a.example.com", 443, "GET", "/") == "allow pass path rego rego_allow"


def test_observe_lets_its_denials_pass(write: Write) -> None:
    decision = decide(Request(CURL, "a.example.com", 443, "GET", "/"), write("deny { true }\n", mode="observe"))
    assert not decision.allowed and decision.passes


def test_a_judge_that_dies_denies_until_there_is_another(write: Write) -> None:
    policy = write("allow { true }\n")
    with judge.Judge.start() as own:
        judge.use(own)
        assert ask(policy, "curl", "a.example.com", 443, "GET", "/").startswith("allow")
        assert own.process is not None
        os.kill(own.process.pid, signal.SIGKILL)
        own.process.wait()
        time.sleep(0.05)
        for _ in range(2):
            assert ask(policy, "curl", "a.example.com", 443, "GET", "/") == "deny refuse path rego rego_error"
    judge.reset()
    assert ask(policy, "curl", "a.example.com", 443, "GET", "/").startswith("allow")


def test_the_evaluating_process_can_open_nothing_and_has_no_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    policy = write("allow { true }\n")
    with judge.Judge.start() as own:
        judge.use(own)
        assert ask(policy, "curl", "a.example.com", 443, "GET", "/").startswith("allow")
        assert own.process is not None
        place = Path(f"/proc/{own.process.pid}")
        assert b"SECRET" not in (place / "environ").read_bytes()
        limits = (place / "limits").read_text()
        assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [["0", "0"]]
        assert "NoNewPrivs:\t1" in (place / "status").read_text()


@pytest.mark.parametrize(
    ("rego", "place", "code"),
    [
        ("allow {\n  input.x ==\n}\n", "1:7", "rego_syntax"),
        ("# note\npackage stockade\n\nallow if {\n  input.z ==\n}\n", "6:1", "rego_syntax"),
        ("allow { x == y }\n", "1:9", "rego_syntax"),
        ("package other\nallow { true }\n", "1:1", "rego_package"),
        ('allow { http.send({"url": "http://a"}).status_code == 200 }\n', "1:18", "rego_builtin"),
        ('\nallow { input.binary == "git"; startwith(input.path, "/") }\n', "2:41", "rego_builtin"),
    ],
)
def test_a_mistake_has_its_place(rego: str, place: str, code: str, write: Write, tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as error:
        write(rego)
    (problem,) = error.value.problems
    assert (f"{problem.path}:{problem.line}:{problem.column}", problem.code) == (f"{tmp_path / 'r.rego'}:{place}", code), str(problem)
    assert problem.source == rego.splitlines()[problem.line - 1]


def test_a_file_that_is_not_there_and_one_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\nname: p\nexec: {allow: [curl]}\nrego: [absent.rego, bad.rego]\n")
    (tmp_path / "bad.rego").write_bytes(b"allow { true }\n\xff\n")
    with pytest.raises(PolicyError) as error:
        load([tmp_path / "p.yaml"])
    assert [(problem.code, problem.line) for problem in error.value.problems] == [("not_utf8", 2), ("unreadable", 4)]


FIELDS = {"binary": ["curl", "git"], "host": ["a.example.com", "b.example.com"], "port": [80, 443], "method": ["GET", "POST"]}
conditions = st.sampled_from([(field, value) for field, values in FIELDS.items() for value in values])
wrappings = st.sampled_from(["{} == {}", "{1} == {0}", "{} = {}", "not {} == {}", "x := {}; x == {}", "{} != {}"])
bodies = st.lists(st.tuples(conditions, wrappings), min_size=1, max_size=3)


@settings(max_examples=40)  # each starts a process that reads what was written
@given(st.lists(bodies, min_size=1, max_size=3))
def test_nothing_that_is_allowed_falls_before_it_is_known_whole(written: list[list[tuple[tuple[str, str | int], str]]]) -> None:
    """A scope must hold for whatever its body allows: what DNS and connect refuse by it would have been refused as a request."""

    def condition(number: int, field: str, value: str | int, form: str) -> str:
        literal = f'"{value}"' if isinstance(value, str) else str(value)
        return (
            form.format(f"input.{field}", literal).replace("x", f"x{number}")
            if form.startswith("x")
            else form.format(f"input.{field}", literal)
        )

    text = "".join(
        "allow { " + "; ".join(condition(n, field, value, form) for n, ((field, value), form) in enumerate(body)) + " }\n"
        for body in written
    )
    directory = Path(os.environ.get("TMPDIR", "/tmp")) / f"stockade-rego-{os.getpid()}"
    directory.mkdir(exist_ok=True)
    (directory / "r.rego").write_text(text)
    (directory / "p.yaml").write_text("version: 1\nname: p\nexec: {allow: [curl, git]}\nrego: [r.rego]\n")
    policy = load([directory / "p.yaml"])
    for binary in (CURL, GIT):
        for host in ("a.example.com", "b.example.com"):
            for port in (80, 443):
                for method in ("GET", "POST"):
                    if decide(Request(binary, host, port, method, "/"), policy).allowed:
                        assert decide(Request(binary, host, port), policy).allowed, text
                        assert decide(Request(binary, host), policy).allowed, text
                        assert port in policy.ports_for(host), text


def test_a_scope_states_what_its_body_demands(write: Write) -> None:
    policy = write(
        'allow { "git" == input.binary; input["host"] = "a.example.com"; not input.port == 443; startswith(input.path, "/x") }\n'
    )
    assert policy.rego is not None and policy.rego.scopes == (Scope(binary="git", host="a.example.com"),)


@pytest.mark.parametrize(
    ("host", "port", "names", "refused"),
    [
        ("ehr.internal", 443, {"curl"}, None),
        ("ehr.internal", 443, None, None),
        ("ehr.internal", 80, {"curl"}, "private 10.0.0.0/8"),  # the body states 443
        ("ehr.internal", 443, {"git"}, "private 10.0.0.0/8"),
        ("other.internal", 443, {"curl"}, "private 10.0.0.0/8"),  # allowed by a condition, but not named
    ],
)
def test_a_private_address_is_reached_only_for_a_host_that_a_body_names(
    host: str, port: int, names: set[str] | None, refused: str | None, write: Write
) -> None:
    policy = write(
        'allow { input.binary == "curl"; input.host == "ehr.internal"; input.port == 443 }\nallow { endswith(input.host, ".internal") }\n'
    )
    binary = Binary("b", frozenset(names), "/b") if names else None
    assert refused_range(ipaddress.ip_address("10.1.2.3"), host, policy, port, binary) == refused


OTHERS = """\
network:
  - name: ehr
    binary: {allow: [git]}
    destination: {allow: [ehr.internal], addresses: [10.9.0.0/16]}
    method: {allow: [GET]}
    path: {allow: [/**]}
  - name: local
    binary: {allow: [git]}
    destination: {allow: [localhost, 10.2.0.0/16]}
    port: [11434]
    method: {allow: [GET]}
    path: {allow: [/**]}
"""


def test_what_a_rule_opens_to_another_binary_is_not_opened_by_a_body_that_does_not_state_it(write: Write) -> None:
    policy = write('allow { input.binary == "curl" }\nallow { input.binary == "sh"; input.host == "10.2.0.1" }\n', rules=OTHERS)
    for host in ("localhost", "10.2.0.1"):
        assert ask(policy, "curl", host, 11434).startswith("deny refuse")
        assert ask(policy, "curl", host, 11434, "GET", "/").startswith("deny refuse")
    assert ask(policy, "sh", "10.2.0.1", 11434, "GET", "/") == "allow pass path rego rego_allow"
    assert ask(policy, "curl", "example.com", 443, "GET", "/") == "allow pass path rego rego_allow"


def test_a_body_for_one_binary_does_not_loosen_where_a_host_lies_for_another(write: Write) -> None:
    policy = write('allow { input.binary == "curl"; input.host == "ehr.internal"; input.port == 443 }\n', rules=OTHERS)
    public = ipaddress.ip_address("192.0.2.1")
    assert refused_range(public, "ehr.internal", policy, 443, GIT) == "outside `addresses:`"
    assert refused_range(public, "ehr.internal", policy, 443, CURL) is None


@pytest.mark.parametrize("head", ["deny[x]", 'deny["x"] = true', "deny[input.host] = true", "deny.x = true"])
def test_a_deny_of_any_form_is_asked_about_what_is_relayed(head: str, write: Write) -> None:
    policy = write(f'{head} {{ x := "x"; input.host == "relay.example.com" }}\n', rules=RULES)
    assert ask(policy, "curl", "relay.example.com").startswith("deny refuse destination rego rego_")


def test_a_judge_that_stalled_is_ended_so_that_there_can_be_another(write: Write) -> None:
    policy = write('allow { input.binary == "curl" }\n')
    started = judge.Judge.start()
    judge.use(started)
    assert started.process is not None
    assert ask(policy, "curl", "x.example.com", 443, "GET", "/").startswith("allow")
    (child,) = map(int, Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text().split())
    os.kill(child, signal.SIGSTOP)
    assert ask(policy, "curl", "x.example.com", 443, "GET", "/") == "deny refuse path rego rego_error"
    os.kill(child, signal.SIGCONT)
    started.process.wait(5)
