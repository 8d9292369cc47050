"""Lint: what no golden file can hold, because it depends on where the file lies, or on how many rules there are."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.cli import main
from stockade.policy import Policy, PolicyError, load
from stockade.policy.families import Families, load_families
from stockade.policy.format.overlaps import overlaps
from stockade.policy.model import Rule

Read = Callable[[str], Policy]


@pytest.mark.parametrize("kind", ["the policy", "what it extends", "its Rego", "a link to it"])
def test_a_source_below_what_the_policy_opens_for_writing_is_an_error(kind: str, tmp_path: Path) -> None:
    work, safe = tmp_path / "work", tmp_path / "safe"
    work.mkdir()
    safe.mkdir()
    policy = (work if kind == "the policy" else safe) / "policy.yaml"
    lines = ["version: 1", f"filesystem: {{write: [{work}]}}"]
    if kind == "what it extends":
        (work / "base.yaml").write_text("version: 1\n")
        lines.append(f"extends: [{work}/base.yaml]")
    if kind == "its Rego":
        (work / "more.rego").write_text('allow { input.host == "a.example.com" }\n')
        lines.append(f"rego: [{work}/more.rego]")
    policy.write_text("\n".join(lines) + "\n")
    if kind == "a link to it":
        (work / "policy.yaml").write_text("\n".join(lines) + "\n")
        policy.unlink()
        policy.symlink_to(work / "policy.yaml")
    with pytest.raises(PolicyError) as error:
        load([policy])
    (problem,) = error.value.problems
    assert (problem.code, problem.line, problem.column) == ("source_writable", 2, 22)
    policy.unlink()
    policy.write_text(f"version: 1\nfilesystem: {{write: [{work}]}}\n")
    if kind != "the policy":
        assert not load([policy]).warnings


def rule(number: int, host: str, relayed: bool, binary: str) -> str:
    head = f"- name: r{number}\n  binary: {{allow: [{binary}]}}\n  destination: {{allow: [{host!r}]}}\n"
    return head + ("  tls: passthrough\n" if relayed else "  method: {allow: [GET]}\n  path: {allow: [/**]}\n")


def each_against_each(rules: tuple[Rule, ...]) -> list[tuple[str, str]]:
    return [
        (relay.name, other.name)
        for relay, other in itertools.product(rules, rules)
        if not relay.inspected and other.inspected and not set(relay.binary.allow).isdisjoint(other.binary.allow)
        if any(
            x.overlaps(y) and not set(relay.ports_for(x)).isdisjoint(other.ports_for(y))
            for x, y in itertools.product(relay.destination.allow, other.destination.allow)
        )
    ]


def test_overlaps_are_those_of_each_rule_against_each(policy: Read) -> None:
    hosts = ["a.example.com", "b.a.example.com", "*.example.com", "*.a.example.com", "other.example.org", "*.example.org:8443"]
    hosts += ["10.1.2.3", "10.1.2.0/24", "10.1.0.0/16", "192.0.2.1:443", "fd00::1", "fd00::/64", "localhost", "localhost:443"]
    chance = random.Random(3)
    text = "".join(rule(n, chance.choice(hosts), chance.random() < 0.5, chance.choice(["curl", "wget"])) for n in range(120))
    rules = policy(text).rules
    found = [(relay.name, other.name) for relay, other in overlaps(rules)]
    assert found == each_against_each(rules) and len(found) > 100


def test_a_family_without_lists_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "binaries.yaml").write_text("git: {}\n")
    monkeypatch.setattr("stockade.resources.POLICIES", tmp_path)
    with pytest.raises(PolicyError) as error:
        load_families.__wrapped__()
    assert [problem.code for problem in error.value.problems] == ["bad_family"]
    assert isinstance(load_families(), Families)


def test_binaries_that_this_machine_lacks_are_said_by_check_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.yaml").write_text(rule(1, "a.example.com", False, "not-here-either"))
    file = tmp_path / "policy.yaml"
    program = tmp_path / "program"
    program.write_text("not executable")
    names = ["sh", "/bin/sh", "/bin/s?", "crul", str(program), "/opt/none/*"]
    file.write_text(f"version: 1\nextends: [./base.yaml]\nexec:\n  allow: {json.dumps([*names, 'not-here-either'])}\n")
    assert "binary_not_found" not in {problem.code for problem in load([file]).warnings}
    assert main(["policy", "check", "-o", "json", str(file)]) == 0
    found = [problem for problem in json.loads(capsys.readouterr().out) if problem["code"] == "binary_not_found"]
    assert [problem["message"].split("`")[1] for problem in found] == ["crul", str(program), "/opt/none/*"]
    assert "did you mean `curl`" in found[0]["message"] and {problem["line"] for problem in found} == {4}
    program.chmod(0o755)
    assert main(["policy", "check", str(file)]) == 0
    assert str(program) + "` is no program" not in capsys.readouterr().out
