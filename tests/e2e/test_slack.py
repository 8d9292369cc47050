"""The seed's Slack policy, as it ships, live: servers of the tests' own answer under Slack's names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from framework.internet import OTHER, SLACK, Internet
from framework.machine import Machine
from stockade.resources import POLICIES

INSIDE = Path(__file__).parent / "inside"
API, FILES = SLACK
# What is asked (method, URL), what the client sees, and at which level it fell.
CASES = [
    ("POST", f"https://{API}/api/chat.postMessage", "200", "path", "rule_allow"),
    ("GET", f"https://{API}/api/conversations.history", "200", "path", "rule_allow"),
    ("GET", f"https://{FILES}/api/conversations.list", "200", "path", "rule_allow"),
    ("POST", f"https://{API}/api/files.upload", "403", "path", "rule_deny"),
    ("POST", f"https://{API}/api/admin.users.invite", "403", "path", "rule_deny"),
    ("POST", f"https://{API}/api/users.admin.setInactive", "403", "path", "rule_deny"),
    ("GET", f"https://{API}/api/users.list", "403", "path", "no_rule"),
    ("DELETE", f"https://{API}/api/chat.postMessage", "403", "method", "no_rule"),
    ("HEAD", f"https://{API}/api/conversations.list", "403", "method", "no_rule"),
]


@pytest.mark.client("curl")
def test_the_seed_policy_decides_as_the_seed_says(machine: Machine, internet: Internet) -> None:
    before = {name: len(internet.nginx.requests(server=name)) for name in SLACK}
    asked = [
        f"curl -sS -o /dev/null -w '%{{http_code}}\\n' {'--head' if verb == 'HEAD' else f'-X {verb}'} {url}" for verb, url, *_ in CASES
    ]
    script = "\n".join([*asked, f"curl -sS https://{OTHER}/; echo $?"])
    result = machine.run(["sh", "-c", script], policy=POLICIES / "examples/slack.yaml")
    assert result.stdout.split() == [*(status for *_, status, _level, _reason in CASES), "6"], result
    for verb, url, _status, level, reason in CASES:
        host, path = url.removeprefix("https://").split("/", 1)
        assert result.select(action="http", method=verb, host=host, path=f"/{path}", level=level, reason=reason), (verb, url, str(result))
    seen = {
        (request["server"], request["method"], request["path"])
        for name in SLACK
        for request in internet.nginx.requests(server=name)[before[name] :]
    }
    assert seen == {
        (API, "POST", "/api/chat.postMessage"),
        (API, "GET", "/api/conversations.history"),
        (FILES, "GET", "/api/conversations.list"),
    }


@pytest.mark.client("node")
def test_node_is_held_to_the_same(machine: Machine) -> None:
    files = {"ask.cjs": (INSIDE / "ask.cjs").read_text(), "asked.json": json.dumps([[verb, url] for verb, url, *_ in CASES])}
    result = machine.run(["node", "ask.cjs"], policy=POLICIES / "examples/slack.yaml", files=files)
    assert [str(status) for status, _ in json.loads(result.stdout)] == [status for *_, status, _level, _reason in CASES], result
    for verb, url, status, level, reason in CASES:
        host, path = url.removeprefix("https://").split("/", 1)
        request = {"method": verb, "host": host, "path": f"/{path}", "status": int(status), "binary": "node"}
        assert result.select(action="http", level=level, reason=reason, rule="slack-agent-policy", **request), (verb, url, result)


@pytest.mark.client("/usr/bin/python3")
def test_another_binary_gets_nothing(machine: Machine) -> None:
    code = f"import socket; socket.getaddrinfo('{API}', 443)"
    result = machine.run(["/usr/bin/python3", "-c", code], policy=POLICIES / "examples/slack.yaml")
    assert "gaierror" in result.stderr, result
    assert result.select(action="dns", decision="deny", level="binary", reason="no_rule", host=API), result
