"""The verbs explain, policy and presets: their answers on stdout, their exit status, and nothing that looks like a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockade.cli import main

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "policy"
SLACK = str(Path(__file__).resolve().parents[3] / "policies" / "examples" / "slack.yaml")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--binary curl --method POST https://api.slack.com/api/chat.postMessage", "allow path slack-agent-policy rule_allow"),
        (
            "--binary /usr/bin/curl --method POST https://API.slack.com./api/%63hat.postMessage?x=1",
            "allow path slack-agent-policy rule_allow",
        ),
        ("--binary curl https://api.slack.com/api/x/../admin.users", "deny path slack-agent-policy rule_deny"),
        ("--binary curl https://api.slack.com/api/%00", "deny path None path_invalid"),
        ("--binary wget https://api.slack.com/", "deny binary None no_rule"),
        ("--binary curl api.slack.com:443", "allow destination slack-agent-policy rule_allow"),
        ("--binary curl api.slack.com:22", "deny destination slack-agent-policy no_rule"),
        ("--binary curl api.slack.com", "allow destination slack-agent-policy rule_allow"),
        ("--binary curl 2130706433:443", "deny destination slack-agent-policy no_rule"),
        ("--binary curl [::1]:443", "deny destination slack-agent-policy no_rule"),
        ("--binary curl ::1", "deny destination slack-agent-policy no_rule"),
    ],
)
def test_explain(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["explain", "--policy", SLACK, "-o", "json", *words.split()])
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["decision", "level", "rule", "reason", "generation"]
    assert "{decision} {level} {rule} {reason}".format(**answer) == expected
    assert status == (0 if answer["decision"] == "allow" else 1)


@pytest.mark.parametrize("target", ["http://127.0.0.1:11434/api/tags", "http://[::1]:11434/api/tags", "127.1:11434", "localhost:11434"])
def test_explain_knows_what_leads_to_the_hosts_services(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--preset", "ollama-local", "--binary", "ollama", target]) == 0
    assert "localhost:11434" in capsys.readouterr().out


def test_explain_says_it_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", "--preset", "pypi", "--binary", "pip", "--method", "POST", "https://pypi.org/simple/"])
    assert capsys.readouterr().out.splitlines() == [
        "DENY pip -> POST pypi.org:443/simple/",
        "  level   method",
        "  rule    pypi-index",
        "  reason  no_rule",
        "  effect  refused",
    ]


@pytest.mark.parametrize("target", ["ftp://a.example.com/", "a.example.com/x", "a b", "https://", "a.example.com:99999"])
def test_explain_refuses_what_is_no_destination(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--binary", "curl", target]) == 2
    assert "bad_target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "status"),
    [([SLACK], 0), (["ten-mistakes.yaml"], 1), ([SLACK, "ten-mistakes.yaml"], 1), (["absent.yaml"], 2), (["extends.yaml"], 1)],
)
def test_policy_check(files: list[str], status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    assert main(["policy", "check", *files]) == status
    out = capsys.readouterr().out
    if "ten-mistakes.yaml" in files:
        assert (GOLDEN / "ten-mistakes.txt").read_text() in out


def test_policy_check_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    assert main(["policy", "check", "-o", "json", "ten-mistakes.yaml"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 10
    assert found[0].keys() == {"path", "line", "column", "severity", "code", "message", "accepted"}


def test_a_policy_that_does_not_load_is_no_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    assert main(["explain", "--policy", "syntax.yaml", "--binary", "curl", "a.example.com"]) == 2
    assert "syntax.yaml:4:4" in capsys.readouterr().err


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "-o", "json"]) == 0
    assert {"npm", "pypi"} <= {preset["name"] for preset in json.loads(capsys.readouterr().out)}
    assert main(["presets"]) == 0
    assert any(line.startswith("pypi ") and "Install Python packages" in line for line in capsys.readouterr().out.splitlines())


def test_a_file_that_is_no_mapping_is_not_quoted_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n")
    assert main(["policy", "check", str(path)]) == 1
    said = capsys.readouterr().out
    assert "a policy cannot be `root:x:0:0:root:/root:/bin/bash daemon:x:1:1:daemon:/usr/…` (text) [wrong_type]" in said
    assert main(["policy", "import", str(path)]) == 2
    assert "an OpenShell policy cannot be `root:x:0:0:root:/root:/bin/bash daemon:x:1:1:daemon:/usr/…` (text)" in capsys.readouterr().err


def test_a_resource_of_kubernetes_is_sent_where_it_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("apiVersion: stockade.internal/v1alpha1\nkind: StockadePolicy\nmetadata: {name: a}\nspec: {selector: {}}\n")
    assert main(["policy", "check", str(path)]) == 1
    said = capsys.readouterr().out
    assert ":1:1: a policy has no key `apiVersion`: a resource of Kubernetes is for `stockade kubernetes check` [unknown_key]" in said
    assert "did you mean" not in said.splitlines()[0]
    assert main(["kubernetes", "check", str(path)]) == 0
