"""`stockade privacy explain`: what it prints of a text, under the settings of a policy, as the proxy would have it classified."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from stockade.cli.privacy import explain
from stockade.policy import load
from stockade.policy.privacy import Custom, Dictionary, Privacy
from stockade.privacy.classify import Classifier
from stockade.privacy.finding import Finding
from stockade.privacy.patterns import Patterns
from stockade.types import StockadeError


def run(tmp_path: Path, text: str, *options: str) -> int:
    (tmp_path / "text").write_text(text)
    parser = argparse.ArgumentParser()
    explain.arguments(parser)
    registry = tmp_path / "registry.json"
    return explain.run(parser.parse_args([str(tmp_path / "text"), "--registry", str(registry), *options]))


def test_a_finding_is_shown_with_its_place_and_its_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "hello\nmail jane.doe@clinic.test now\n") == 1
    assert "2:6\tpii.contact\t0.99\tpattern:email\tjane.doe@clinic.test" in capsys.readouterr().out.splitlines()


def test_nothing_found_is_said_and_is_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "hello\n") == 0
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[-1]) == ("", "nothing sensitive found")


def test_a_policy_gives_its_thresholds_its_words_and_its_patterns(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    privacy = Privacy(
        thresholds=(("pii.contact", 1.0),),
        dictionaries=(Dictionary("products", "ip.document", ("Blue Heron",), ""),),
        custom=(Custom("ward", "W-[0-9]{4}", "phi.identifier"),),
    )
    settings = explain.settings_of(replace(load([tmp_path / "policy.yaml"]), privacy=privacy))
    text = "jane.doe@clinic.test of Blue Heron is in W-1234"
    found = {(text[f.start : f.end], f.category, f.detector) for f in Classifier([Patterns()]).classify([text], settings)[0]}
    assert found == {("Blue Heron", "ip.document", "dictionary:products"), ("W-1234", "phi.identifier", "custom:ward")}


def test_a_policy_without_a_privacy_section_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    with pytest.raises(StockadeError, match="says nothing of what to detect"):
        run(tmp_path, "hello", "--policy", str(tmp_path / "policy.yaml"))


def test_what_would_steer_a_terminal_is_shown_and_not_sent() -> None:
    assert "\x1b]" not in explain.highlighted("a\x1b]0;title\x07b", [])


def test_a_colour_is_ended_once() -> None:
    shown = explain.highlighted(
        "To Ada: key", [Finding(3, 6, "phi.identifier", "model", 1.0), Finding(8, 11, "credential.key", "model", 1.0)]
    )
    assert shown == "To \x1b[1;35mAda\x1b[0m: \x1b[1;31mkey\x1b[0m"


POLICY = """\
version: 1
privacy:
  on_failure: pass
  routes:
    - {name: mails, when: [pii.contact], endpoint: "*.example.com", model: gpt-*, then: pass}
    - {name: wards, when: [phi.ward], then: deny}
  detect: {custom: [{name: ward, pattern: "W-[0-9]{4}", category: phi.ward}]}
  residency: {api.example.com: EU}
"""


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (
            "mail jane.doe@clinic.test",
            ["--to", "api.openai.com"],
            ["REDACT a call", "default:persons", "privacy_default", "redacts pii.contact"],
        ),
        (
            "mail jane.doe@clinic.test",
            ["--to", "API.example.com.", "--model", "gpt-5"],
            ["PASS a call", "processed in EU", "rule    mails"],
        ),
        ("mail jane.doe@clinic.test", ["--to", "api.example.com"], ["REDACT a call"]),
        ("in W-1234", ["--to", "api.example.com"], ["REFUSE a call", "rule    wards", "privacy_route"]),
        ("HbA1c of the patient: 9.1 %", ["--to", "api.openai.com"], ["REFUSE a call", "names no local model"]),
    ],
)
def test_what_would_become_of_a_call_is_said(
    text: str, options: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    assert run(tmp_path, text, "--policy", str(tmp_path / "policy.yaml"), *options) == 1
    said = capsys.readouterr().out
    for word in words:
        assert word in said
    run(tmp_path, text, "--policy", str(tmp_path / "policy.yaml"), *options, "-o", "json")
    assert json.loads(capsys.readouterr().out)["call"]["effect"].upper() == words[0].split()[0]


def test_that_needs_a_policy_and_a_host(tmp_path: Path) -> None:
    with pytest.raises(StockadeError, match="none is given"):
        run(tmp_path, "x", "--to", "api.openai.com")
    (tmp_path / "policy.yaml").write_text(POLICY)
    with pytest.raises(StockadeError, match="is no host"):
        run(tmp_path, "x", "--policy", str(tmp_path / "policy.yaml"), "--to", "a b")
