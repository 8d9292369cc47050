"""What a start and a reload say of the policy: every setting that counts, no value of a variable, and a digest of all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.policy import load
from stockade.policy.summary import RULES, summary

BASE = """
version: 1
name: test
exec: {allow: [curl, git], deny: [nc]}
process: {env: {TOKEN: very-secret, HOME: inherit}, memory: 512M}
network:
  - name: web
    binary: {allow: [curl]}
    destination: {allow: [api.example.com], deny: [bad.example.com]}
    port: [443]
    method: {allow: [GET]}
    path: {allow: ["/v1/**"], deny: ["/v1/admin/*"]}
  - name: code
    binary: {allow: [git]}
    destination: {allow: [git.example.com]}
    tls: passthrough
"""


def said(directory: Path, text: str, name: str = "policy.yaml") -> dict[str, str | int | list[str]]:
    (directory / name).write_text(text)
    return summary(load([directory / name], generation=1))


def terms(of: dict[str, str | int | list[str]]) -> dict[str, str]:
    found = of["terms"]
    assert isinstance(found, list)
    return dict(each.partition("=")[::2] for each in found)


def test_every_rule_says_who_where_what_and_where_it_stands(tmp_path: Path) -> None:
    found = said(tmp_path, BASE)
    place = tmp_path / "policy.yaml"
    assert found["rules"] == [
        f"web: curl -> api.example.com port 443; GET /v1/**; never bad.example.com, /v1/admin/* ({place}:7)",
        f"code: git -> git.example.com; TLS passed through, not looked into ({place}:13)",
    ]
    assert found["rule_count"] == 2


def test_a_place_is_said_of_the_machine_and_not_of_where_the_caller_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "policy.yaml").write_text(BASE)
    monkeypatch.chdir(tmp_path / "inner")
    rules = summary(load(["../policy.yaml"], generation=1))["rules"]
    assert isinstance(rules, list) and rules[0].endswith(f" ({tmp_path}/policy.yaml:7)")


def test_settings_are_there_and_no_value_of_a_variable(tmp_path: Path) -> None:
    found = said(tmp_path, BASE)
    assert terms(found)["process.env"] == "TOKEN, HOME (inherited)" and "very-secret" not in str(found)
    picked = {"mode": "enforce", "exec.unlisted": "refuse", "rules.inspected": "1", "rules.relayed": "1", "process.memory": str(512 << 20)}
    assert picked.items() <= terms(found).items()


def test_the_digest_is_of_what_is_said_and_not_of_where(tmp_path: Path) -> None:
    one = said(tmp_path, BASE)
    assert said(tmp_path, "# moved down\n" + BASE, "other.yaml")["policy_sha256"] == one["policy_sha256"]
    for old, new in (("[GET]", "[GET, HEAD]"), ("/v1/**", "/v2/**"), ("bad.example", "worse.example"), ("[nc]", "[ncat]"), ("512M", "1G")):
        assert said(tmp_path, BASE.replace(old, new))["policy_sha256"] != one["policy_sha256"], new


def test_of_many_rules_the_first_are_shown_and_all_are_digested(tmp_path: Path) -> None:
    rule = "  - {{name: r{0}, binary: {{allow: [curl]}}, destination: {{allow: [h{0}.example.com]}}, tls: passthrough}}\n"
    many = "version: 1\nname: test\nnetwork:\n" + "".join(rule.format(number) for number in range(RULES + 20))
    found, other = said(tmp_path, many), said(tmp_path, many.replace(f"h{RULES + 10}.", "elsewhere."))
    assert isinstance(found["rules"], list) and len(found["rules"]) == RULES and found["rule_count"] == RULES + 20
    assert found["rules"] == other["rules"] and found["policy_sha256"] != other["policy_sha256"]
