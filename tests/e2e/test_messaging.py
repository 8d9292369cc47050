"""The presets for messages, mail and issues, live: curl asks what the policy tests beside them ask, and gets what these say."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml

from framework.internet import Internet
from framework.machine import Machine
from stockade.policy import load
from stockade.policy.cases.suite import Case, read_suite
from stockade.proxy.canonical import canonical_path
from stockade.resources import POLICIES

pytestmark = pytest.mark.client("curl")

PRIVATE = ["10.0.0.0/8", "fc00::/7"]


def cases(preset: str) -> list[Case]:
    """The requests that curl makes."""
    suite = read_suite(POLICIES / "presets" / f"{preset}_test.yaml")
    return [case for case in suite.cases if case.binary == "curl" and case.target is not None and case.target.path is not None]


def among_private_addresses(preset: str) -> str:
    """The preset, in the tests' internet: there a wildcard must say that what it finds may be private. The rest is as it ships."""
    rules = [rule for rule in load([], presets=[preset]).rules if any(pattern.kind == "below" for pattern in rule.destination.allow)]
    found = {rule.name: {"destination": {"allow": [p.text for p in rule.destination.allow], "addresses": list(PRIVATE)}} for rule in rules}
    return yaml.safe_dump({"version": 1, "extends": [f"presets/{preset}"]} | ({"override": found} if found else {}))


def curl(case: Case) -> str:
    """The command; of a WebSocket, the request that would be upgraded."""
    body = ["-H", "Content-Type: application/json", "-d", '{"content": "text"}'] if case.method == "POST" else []
    url = case.asked.split()[-1].replace("wss://", "https://")
    words = ["curl", "-sS", "--globoff", "--path-as-is", "-o", "/dev/null", "-w", r"%{http_code}\n", "-X", case.method or "GET", *body, url]
    return shlex.join(words)


@pytest.mark.parametrize("preset", ["slack", "discord", "telegram", "outlook", "jira"])
def test_a_preset_does_what_its_tests_say(machine: Machine, preset: str) -> None:
    asked = cases(preset)
    script = "\n".join(curl(case) for case in asked)
    result = machine.run(["sh", "-c", script], policy=among_private_addresses(preset))
    answers = result.stdout.split()
    assert len(answers) == len(asked), result
    for case, status in zip(asked, answers, strict=True):
        expected = case.expected
        level = expected.level or "path"
        assert status == ("200" if expected.outcome == "allow" else "000" if level == "destination" else "403"), (case.asked, result)
        if level != "destination":
            assert case.target is not None and case.target.path is not None
            request = {"method": case.method, "host": case.target.host, "rule": expected.rule, "decision": expected.outcome}
            on_record = result.select(action="http", level=level, **request)
            path = canonical_path(case.target.path)
            assert any(record["http"]["path"] == path or "***" in record["http"]["path"] for record in on_record), (case.asked, result)


def test_a_wildcard_of_a_preset_finds_no_private_address(machine: Machine, internet: Internet) -> None:
    """As they ship: whoever owns a name below *.atlassian.net may not point it into the user's own network."""
    url = "https://example.atlassian.net/rest/api/3/issue/PRIVATE-1"
    result = machine.run(["curl", "-sS", "-m", "10", url], options=["--preset", "jira"])
    assert json.loads(result.stdout)["reason"] == "address_refused", result
    assert not internet.nginx.requests(server="example.atlassian.net", path="/rest/api/3/issue/PRIVATE-1")


def test_the_token_of_a_telegram_bot_is_nowhere_in_what_is_written_down(machine: Machine) -> None:
    url = "https://api.telegram.org/bot123456789:AAFakeTokenOfTheTests/setWebhook"
    result = machine.run(["curl", "-sS", url, url.replace("setWebhook", "getMe")], options=["--preset", "telegram"])
    refused, answered = result.stdout.splitlines()
    assert json.loads(refused)["path"] == "/bot***/setWebhook" and "AAFakeTokenOfTheTests" in answered, result
    assert "AAFakeTokenOfTheTests" not in result.audit.read_text()
    for decision, method in (("deny", "setWebhook"), ("allow", "getMe")):
        assert result.select(action="http", decision=decision, path=f"/bot***/{method}", rule="telegram-bot"), result
