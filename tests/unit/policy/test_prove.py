"""Claims: what is proved holds for every request that is tried, and what is refuted is refuted by a request that decide() allows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.policies import policies, requests
from stockade.cli import main
from stockade.policy import Policy, decide, load
from stockade.policy.hosts import HostPattern
from stockade.policy.paths import allow_list
from stockade.policy.proof.prove import Claim, parse_claim, prove
from stockade.policy.question import ask, parse_target
from stockade.types import Request, StockadeError

claims = st.builds(
    lambda binary, host, methods, path: parse_claim(f"no request {binary}can reach {host}{methods}{path}"),
    st.sampled_from(["", "", "from curl ", "from /usr/bin/curl ", "from git ", "from /opt/t/git "]),
    st.sampled_from(
        ["*", "*.example.com", "a.example.com", "a.example.com:8443", "*.a.example.com", "c.b.a.example.com", "10.1.0.0/16", "10.1.2.3"]
    ),
    st.sampled_from(["", "", " with GET", " with POST", " with GET or POST", " with PUT"]),
    st.sampled_from(["", "", " on /a/**", " on /a", " on /**/c", " on /a%2Fb", " on /x"]),
)


def speaks_of(claim: Claim, request: Request) -> bool:
    host: HostPattern = claim.host
    return (
        (claim.binary is None or claim.binary in request.binary.names or claim.binary == request.binary.path)
        and host.matches(request.host)
        and host.port in (None, request.port)
        and (not claim.methods or request.method in claim.methods)
        and (claim.path is None or (request.path is not None and allow_list([claim.path]).matches(request.path)))
    )


@given(policies(), claims, st.lists(requests(), min_size=30, max_size=60))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_request_contradicts_a_proof(policy: Policy, claim: Claim, tried: list[Request]) -> None:
    proof = prove(claim, policy)
    found = proof.counterexample
    if found is not None:
        assert proof.answer == "false"
        assert speaks_of(claim, found.request)
        assert decide(found.request, policy).passes and ask(found.request, policy).decision == found.decision
        target = parse_target(found.url)
        assert (target.host, target.port, target.path) == (found.request.host, found.request.port, found.request.path)
    for request in tried:
        if speaks_of(claim, request) and ask(request, policy).decision.passes:
            assert proof.answer != "proved", (claim.text, request)


POLICY = """
    version: 1
    network:
      - name: wide
        binary: {allow: [curl, git]}
        destination: {allow: ["*.example.com"], deny: [b.example.com]}
        method: {allow: [GET, POST], deny: [DELETE]}
        path: {allow: [/**], deny: [/admin/*]}
      - name: writes
        binary: {allow: [git], deny: [wget]}
        destination: {allow: [git.example.com]}
        port: 443
        method: {allow: [GET, DELETE]}
        path: {allow: [/repo/*]}
      - name: piped
        binary: {allow: [wget]}
        destination: {allow: [files.example.org]}
        tls: passthrough
      - name: barred
        binary: {allow: [curl], deny: [wget]}
        destination: {allow: [other.example.org]}
        method: {allow: [GET]}
        path: {allow: ["/v1/*"]}
      - name: addresses
        binary: {allow: [curl]}
        destination: {allow: [10.0.0.0/8], deny: [10.1.0.0/16]}
        method: {allow: [GET]}
        path: {allow: [/]}
"""


@pytest.mark.parametrize(
    ("claim", "answer", "said"),
    [
        ("no request can reach b.example.com", "proved", None),
        ("no request can reach *.b.example.com", "false", "curl GET https://x.b.example.com/ wide"),
        ("no request can reach *.example.com with DELETE", "proved", None),  # what wide denies, writes cannot allow: they share git
        ("no request can reach *.example.com on /admin/**", "proved", None),
        ("no request can reach *.example.com on /admin", "proved", None),
        ("no request can reach git.example.com:443 with GET", "false", "curl GET https://git.example.com/ wide"),
        ("no request can reach git.example.com:8443", "proved", None),
        ("no request from git can reach git.example.com with PUT or POST", "false", "git POST https://git.example.com/ wide"),
        ("no request can reach files.example.org", "false", "wget None https://files.example.org/ piped"),
        ("no request can reach files.example.org with DELETE", "false", "wget DELETE https://files.example.org/ piped"),
        ("no request can reach files.example.org:80", "proved", None),
        ("no request from wget can reach other.example.org", "proved", None),
        ("no request can reach other.example.org on /v2/**", "proved", None),
        ("no request can reach other.example.org on /*/b", "false", "curl GET https://other.example.org/v1/b barred"),
        ("no request can reach 10.1.0.0/16", "proved", None),
        ("no request can reach 10.0.0.0/8", "false", "curl GET https://10.0.0.0/ addresses"),
        ("no request can reach 10.2.0.0/15 on /", "false", "curl GET https://10.2.0.0/ addresses"),
        ("no request from python3 can reach *", "proved", None),
        ("no request from /usr/bin/curl can reach * with GET", "false", "curl GET https://git.example.com/ wide"),
    ],
)
def test_claims(claim: str, answer: str, said: str | None, policy: Callable[[str], Policy]) -> None:
    proof = prove(parse_claim(claim), policy(POLICY))
    assert proof.answer == answer
    found = proof.counterexample
    assert said == (f"{found.who.binary.path.rpartition('/')[2]} {found.method} {found.url} {found.decision.rule}" if found else None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3:11434", "::1", "[::1]:11434", "0.0.0.0", "localhost", "2130706433"])
def test_the_addresses_of_localhost_are_localhost(host: str, policy: Callable[[str], Policy]) -> None:
    """The kernel takes a connection to any of them, on a port that a rule lends, for one to the host's service."""
    local = "network: [{name: x, binary: {allow: [curl]}, destination: {allow: [localhost]}, tls: passthrough, port: [11434]}]"
    assert prove(parse_claim(f"no request can reach {host}"), policy(f"version: 1\nname: p\n{local}\n")).answer == "false"


def test_a_file_is_all_that_it_is_called(policy: Callable[[str], Policy]) -> None:
    """/usr/bin/curl is a curl: what is vetoed for curl is vetoed for it, so the rule for the path gives nothing."""
    loaded = policy(
        """
        - name: family
          binary: {allow: [curl]}
          destination: {allow: [a.example.com]}
          method: {allow: [GET]}
          path: {allow: [/x], deny: [/admin/*]}
        - name: path
          binary: {allow: [/usr/bin/curl]}
          destination: {allow: [a.example.com]}
          method: {allow: [GET]}
          path: {allow: [/admin/*]}
        """
    )
    assert prove(parse_claim("no request can reach a.example.com on /admin/*"), loaded).answer == "proved"


def test_observe_lets_everything_pass(policy: Callable[[str], Policy]) -> None:
    proof = prove(
        parse_claim("no request can reach other.example.net with PATCH"), policy("version: 1\nmode: observe\nexec: {allow: [sh]}\n")
    )
    assert proof.answer == "false" and proof.counterexample is not None
    assert not proof.counterexample.decision.allowed and proof.counterexample.decision.passes


@pytest.mark.parametrize(
    "claim",
    [
        "",
        "no request",
        "any request can reach a.example.com",
        "no request can reach",
        "no request can reach http://a.example.com/",
        "no request can reach a.example.com with get",
        "no request can reach a.example.com with GET, POST",
        "no request can reach a.example.com on admin",
        "no request can reach a.example.com on /a//b",
        "no request can reach a.*.com",
        "no request can reach 127.0.0.0/8",
        "no request can reach ::/0",
    ],
)
def test_what_is_no_claim_is_refused(claim: str) -> None:
    with pytest.raises(StockadeError) as error:
        parse_claim(claim)
    assert error.value.code == "bad_claim" and error.value.hint


def test_the_verb(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = "no request can reach pypi.org with POST"
    assert main(["policy", "check", "presets/pypi", "--prove", said]) == 0
    assert f"presets/pypi: proved: {said}" in capsys.readouterr().out
    refuted = "no request from pip can reach *.org with GET"
    assert main(["policy", "check", "presets/pypi", "--prove", said, "--prove", refuted, "-o", "json"]) == 1
    first, second = json.loads(capsys.readouterr().out)["proofs"]
    assert (first["answer"], first["counterexample"]) == ("proved", None)
    example = second["counterexample"]
    assert main(["explain", "--preset", "pypi", "--binary", example["binary"], "--method", example["method"], example["url"]]) == 0
    capsys.readouterr()
    assert main(["policy", "check", "presets/pypi", "--prove", "nothing"]) == 2
    assert main(["policy", "check", str(tmp_path / "absent.yaml"), "--prove", said]) == 2


@pytest.mark.parametrize(
    ("rego", "claim", "answer"),
    [
        ('deny { input.method == "DELETE" }', "no request can reach other.example.net", "proved"),
        ('deny { input.method == "DELETE" }', "no request can reach a.example.com with GET", "false"),
        ('deny { input.path == "/v1/x" }', "no request can reach a.example.com on /v1/x", "could not tell"),
        ('allow { input.host == "b.example.com" }', "no request can reach c.example.com", "proved"),
        ('allow { input.host == "b.example.com" }', "no request can reach *.example.com on /v2/*", "could not tell"),
        ('allow { input.host == "b.example.com"; input.method == "GET" }', "no request can reach *.example.com with POST", "proved"),
        ('allow { input.host == "b.example.com"; input.port == 443 }', "no request can reach b.example.com:80", "proved"),
        ('allow { input.binary == "git"; input.host == "b.example.com" }', "no request from curl can reach b.example.com", "proved"),
        ('allow { input.binary == "git"; input.host == "b.example.com" }', "no request from git can reach b.example.com", "could not tell"),
        ('allow { startswith(input.path, "/") }', "no request can reach c.example.net", "could not tell"),
        ('allow { input.host == "b.example.com" }', "no request can reach *.example.com with GET", "false"),
    ],
)
def test_rego_is_weighed_by_what_its_bodies_demand(rego: str, claim: str, answer: str, tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(rego + "\n")
    file = tmp_path / "p.yaml"
    rule = "{name: r, binary: {allow: [curl]}, destination: {allow: [a.example.com]}, method: {allow: [GET]}, path: {allow: ['/v1/*']}}"
    file.write_text(f"version: 1\nexec: {{allow: [curl, git]}}\nrego: [p.rego]\nnetwork:\n  - {rule}\n")
    proof = prove(parse_claim(claim), load([file]))
    assert proof.answer == answer, proof
    assert bool(proof.reason) is (answer == "could not tell")


def test_could_not_tell_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.rego").write_text('allow { startswith(input.path, "/") }\n')
    (tmp_path / "p.yaml").write_text("version: 1\nexec: {allow: [curl]}\nrego: [p.rego]\n")
    assert main(["policy", "check", str(tmp_path / "p.yaml"), "--prove", "no request can reach a.example.com"]) == 2
    assert "could not tell" in capsys.readouterr().out


def test_a_path_that_servers_read_in_two_ways_is_no_counter_example(policy: Callable[[str], Policy]) -> None:
    loaded = policy(
        """
        - name: dots
          binary: {allow: [curl]}
          destination: {allow: [a.example.com]}
          method: {allow: [GET]}
          path: {allow: [/a.], deny: [/b]}
        """
    )
    proof = prove(parse_claim("no request can reach a.example.com"), loaded)
    assert proof.answer == "could not tell" and "not as every server may read it" in proof.reason
