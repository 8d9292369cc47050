"""The gateways of Slack and Discord, live: the real client libraries hold a WebSocket through the proxy under the presets, hear, answer,
and move to another gateway when told to; what the presets are there to refuse is refused.

The presets name curl. The bots are scripts, so the policy here says what a user's has to: this interpreter, in place of curl.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework import libraries
from framework.chat import (
    CHANNEL,
    DISCORD,
    DISCORD_GATEWAY,
    DISCORD_RESUME,
    GUILD,
    QUESTIONS,
    SLACK,
    SLACK_BACKUP,
    SLACK_PRIMARY,
)
from framework.internet import Internet
from framework.machine import Machine, Result, wait_for

pytestmark = pytest.mark.network

INSIDE = Path(__file__).parent / "inside"
ANSWERS = [f"answer to {question}" for question in QUESTIONS]


def extending(preset: str, interpreter: str, **rules: dict[str, Any]) -> str:
    """The preset, for an interpreter."""
    changed = {name: {"binary": {"allow": [interpreter]}, **rule} for name, rule in rules.items()}
    return yaml.safe_dump({"version": 1, "extends": [f"presets/{preset}"], "override": changed, "exec": {"allow": [interpreter]}})


def bot(machine: Machine, name: str, policy: str, *requirements: str) -> tuple[Result, dict[str, Any]]:
    """The result of running inside/NAME with its libraries, and what it printed at its end."""
    install, interpreter = (libraries.python, libraries.PYTHON) if name.endswith(".py") else (libraries.node, libraries.NODE)
    try:
        site = install(*requirements)
    except RuntimeError as error:
        pytest.skip(str(error))
    files = {name: (INSIDE / name).read_text()}
    result = machine.run([interpreter, name, site], policy=policy, files=files, options=["--bind", f"{site}:ro"])
    assert result.status == 0 and result.stdout, result
    return result, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.client("/usr/bin/python3", "pip")
def test_slack_sdk(machine: Machine, internet: Internet) -> None:
    slack(machine, internet, "slack_bot.py", "python3", "slack_sdk==3.48.0")


@pytest.mark.client("node", "npm")
def test_slack_socket_mode_on_node(machine: Machine, internet: Internet) -> None:
    slack(machine, internet, "slack_bot.cjs", "node", "@slack/socket-mode@3.1.0", "@slack/web-api@8.2.0")
    assert all(link.deflated for link in internet.slack.links)


def slack(machine: Machine, internet: Internet, name: str, interpreter: str, *requirements: str) -> None:
    seen = internet.slack
    seen.clear()
    policy = extending("slack", interpreter, **{"slack-web-api": {}, "slack-socket-mode": {}})
    result, met = bot(machine, name, policy, *requirements)
    # what the bot met
    assert (met["heard"], met["answered"]) == (list(QUESTIONS), True), result
    assert met["refused"]["status"] == 403 and met["refused"]["rule"] == "slack-web-api" and met["refused"]["level"] == "path", result
    # what Slack saw: two gateways, each envelope acknowledged, each ping answered; and of the invitation nothing
    assert [(link.host, [ack["envelope_id"] for ack in link.said]) for link in seen.links] == [
        (SLACK_PRIMARY, ["E1"]),
        (SLACK_BACKUP, ["E2"]),
    ]
    wait_for(lambda: all(link.code for link in seen.links), "the end of both WebSockets at Slack")
    assert all(link.pongs == [b"are you there"] and link.code == 1000 for link in seen.links), seen.links
    assert [message["text"] for message in seen.posted] == ANSWERS
    assert {path for _, path in seen.calls} <= {"/api/auth.test", "/api/apps.connections.open", "/api/chat.postMessage"}, seen.calls
    # what is on record
    for host in (SLACK_PRIMARY, SLACK_BACKUP):
        opened = {"host": host, "method": "GET", "path": "/link/", "status": 101, "rule": "slack-socket-mode", "binary": interpreter}
        assert result.select(action="websocket", decision="allow", effect="pass", level="path", **opened), result
    posted = {"host": SLACK, "method": "POST", "path": "/api/chat.postMessage", "status": 200, "rule": "slack-web-api"}
    assert len(result.select(action="http", decision="allow", level="path", **posted)) == 2, result
    invited = {"host": SLACK, "method": "POST", "path": "/api/admin.users.invite", "status": 403, "rule": "slack-web-api"}
    assert result.select(action="http", decision="deny", level="path", reason="rule_deny", **invited), result


@pytest.mark.client("/usr/bin/python3", "pip")
def test_discord_py(machine: Machine, internet: Internet) -> None:
    discord(machine, internet, "discord_bot.py", "python3", "discord.py==2.7.1")
    assert all("compress=zlib-stream" in link.target for link in internet.discord.links)
    assert internet.discord.links[0].code == 4000  # what discord.py closes with when it means to resume


@pytest.mark.client("node", "npm")
def test_discord_js(machine: Machine, internet: Internet) -> None:
    result, met = discord(machine, internet, "discord_bot.cjs", "node", "discord.js@14.28.1")
    assert met["refused"]["rule"] == "discord-api" and met["refused"]["level"] == "method", result
    assert all(link.deflated for link in internet.discord.links)
    assert internet.discord.links[0].code == 4200  # the same of discord.js


def discord(machine: Machine, internet: Internet, name: str, interpreter: str, *requirements: str) -> tuple[Result, dict[str, Any]]:
    seen = internet.discord
    seen.clear()
    # The resuming gateway is found by the preset's wildcard, and the tests' internet is private: a wildcard must say so.
    gateway = {"destination": {"allow": [DISCORD_GATEWAY, "*.discord.gg"], "addresses": ["10.0.0.0/8", "fc00::/7"]}}
    policy = extending("discord", interpreter, **{"discord-api": {}, "discord-gateway": gateway})
    result, met = bot(machine, name, policy, *requirements)
    # what the bot met
    assert (met["heard"], met["answered"]) == (list(QUESTIONS), True), result
    assert met["refused"]["status"] == 403, result
    wait_for(lambda: all(link.code for link in seen.links), "the end of both WebSockets at Discord")
    # what Discord saw: a session identified, kept alive by heartbeats, and resumed where it said; and of the new name nothing
    first, second = seen.links
    assert [link.host for link in seen.links] == [DISCORD_GATEWAY, DISCORD_RESUME]
    assert 1 in [said["op"] for said in first.said]
    [identified], [resumed] = ([said for said in link.said if said["op"] != 1] for link in (first, second))
    assert (identified["op"], resumed["op"], resumed["d"]["session_id"]) == (2, 6, "session-1")
    assert [message["content"] for message in seen.posted] == ANSWERS
    assert {method for method, _ in seen.calls} == {"GET", "POST"} and not any("guilds" in path for _, path in seen.calls), seen.calls
    # what is on record
    for host in (DISCORD_GATEWAY, DISCORD_RESUME):
        opened = {"host": host, "method": "GET", "path": "/", "status": 101, "rule": "discord-gateway", "binary": interpreter}
        assert result.select(action="websocket", decision="allow", effect="pass", level="path", **opened), result
    posted = {"host": DISCORD, "method": "POST", "path": f"/api/v10/channels/{CHANNEL}/messages", "status": 200, "rule": "discord-api"}
    assert len(result.select(action="http", decision="allow", level="path", **posted)) == 2, result
    renamed = {"host": DISCORD, "method": "PATCH", "path": f"/api/v10/guilds/{GUILD}", "status": 403, "rule": "discord-api"}
    assert result.select(action="http", decision="deny", level="method", reason="rule_deny", **renamed), result
    return result, met
