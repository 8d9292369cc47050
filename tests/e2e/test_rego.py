"""Rego in a live sandbox: the seed's text as written, a rule that loops, and a judge that is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from framework.internet import ECHO, SLACK, Internet
from framework.machine import Machine, wait_for
from stockade.resources import POLICIES

API = SLACK[0]
pytestmark = pytest.mark.client("curl", "/usr/bin/python3")


def whole(room: Path, rego: str, allow: str = "curl, sh") -> Path:
    (room / "rules.rego").write_text(rego)
    (room / "policy.yaml").write_text(f"version: 1\nname: rego\nexec: {{allow: [{allow}]}}\nrego: [rules.rego]\n")
    return room / "policy.yaml"


def test_the_seeds_text_holds_in_a_sandbox(machine: Machine, internet: Internet) -> None:
    before = len(internet.nginx.requests(server=API))
    ask = "curl -sS -o /dev/null -w '%{http_code}\\n'"
    script = f"""
        {ask} -X POST https://{API}/api/chat.postMessage
        {ask} -X GET https://{API}/api/chat.postMessage
        {ask} -X POST https://{API}/api/admin.users.invite
        {ask} https://{ECHO}/ ; echo $?
    """
    result = machine.run(["sh", "-c", script], policy=POLICIES / "examples/rego.yaml")
    assert result.stdout.split() == ["200", "403", "403", "000", "6"], result
    assert result.select(action="dns", decision="allow", reason="rego_pending", host=API, binary="curl"), result
    assert result.select(action="connect", decision="allow", reason="rego_pending", host=API), result
    assert result.select(action="http", decision="allow", reason="rego_allow", rule="rego", method="POST", path="/api/chat.postMessage"), (
        result
    )
    assert result.select(action="http", decision="deny", level="method", reason="no_rule", method="GET"), result
    assert result.select(action="http", decision="deny", level="path", reason="no_rule", path="/api/admin.users.invite"), result
    assert result.select(action="dns", decision="deny", level="destination", reason="no_rule", host=ECHO), result
    seen = internet.nginx.requests(server=API)[before:]
    assert [(request["method"], request["path"]) for request in seen] == [("POST", "/api/chat.postMessage")]


def test_another_binary_of_the_same_sandbox_gets_nothing(machine: Machine) -> None:
    room = machine.room()
    policy = whole(room, f'allow {{ input.binary == "curl"; input.host == "{ECHO}" }}\n', allow="curl, python3, sh")
    code = f"import socket; socket.getaddrinfo('{ECHO}', 443)"
    result = machine.run(["sh", "-c", f'curl -sS https://{ECHO}/a; /usr/bin/python3 -c "{code}"'], policy=policy, room=room)
    assert result.select(action="http", decision="allow", reason="rego_allow", path="/a"), result
    assert "gaierror" in result.stderr and result.select(action="dns", decision="deny", level="binary", binary="python3"), result


def test_a_rule_that_loops_denies_and_the_next_request_is_answered(machine: Machine, internet: Internet) -> None:
    room = machine.room()
    here = f'input.host == "{ECHO}"'
    loop = f'n := numbers.range(1, 3000)\nallow {{ {here}; input.path == "/loop"; x := n[_]; y := n[_]; z := n[_]; x + y + z == 1 }}\n'
    policy = whole(room, loop + f'allow {{ {here}; input.path == "/fine" }}\n')
    paths = ["/fine", "/loop", "/fine", "/loop", "/fine"]
    script = "\n".join(f"curl -sS -o /dev/null -w '%{{http_code}}\\n' https://{ECHO}{path}" for path in paths)
    result = machine.run(["sh", "-c", script], policy=policy, room=room)
    assert result.stdout.split() == ["200", "403", "200", "403", "200"], result
    assert len(result.select(action="http", decision="deny", reason="rego_error", path="/loop", rule="rego")) == 2, result
    assert not [seen for seen in internet.nginx.requests(server=ECHO) if seen["path"] == "/loop"]


def test_a_judge_that_is_killed_denies_until_the_next_one_is_there(machine: Machine, inside: dict[str, str]) -> None:
    room = machine.room(inside)
    policy = whole(room, f'allow {{ input.host == "{ECHO}" }}\n', allow="python3")
    log = room / "work/hammer.log"
    with machine.start(f"/usr/bin/python3 hammer.py {ECHO}", policy=policy, room=room) as running:
        running.wait_for("new 5 200", log)
        os.kill(judge_of(running.process.pid), signal.SIGKILL)
        served = log.read_text().count(" 200")
        wait_for(lambda: log.read_text().count(" 200") > served + 5, "answers judged by the next one", running=running)
        running.process.terminate()
        result = running.finish()
    assert {record["reason"] for record in result.select(action="http", decision="deny")} <= {"rego_error"}, result
    assert result.select(action="http", decision="allow", reason="rego_allow"), result


def judge_of(agent: int) -> int:
    """The child of the agent in which Rego is evaluated."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"rego/engine.py" in (process / "cmdline").read_bytes() and f"PPid:\t{agent}\n" in (process / "status").read_text():
                return int(process.name)
        except OSError:  # it ended meanwhile
            continue
    raise AssertionError("no process evaluates Rego")


def test_rego_is_reloaded(machine: Machine, inside: dict[str, str]) -> None:
    room = machine.room(inside)
    work = room / "work"
    policy = whole(room, f'allow {{ input.host == "{ECHO}" }}\n', allow="python3")
    with machine.start(f"/usr/bin/python3 keepalive.py {ECHO} 2", policy=policy, room=room) as running:
        (work / "go-0").touch()
        running.wait_for("200 ", work / "answer-0")
        (room / "rules.rego").write_text(f'allow {{ input.host == "{ECHO}" }}\ndeny {{ input.method == "GET" }}\n')
        wait_for(lambda: [record for record in running.records() if record["reason"] == "reloaded"], "a reload by file", running=running)
        (work / "go-1").touch()
        wait_for((work / "answer-1").exists, "answer 1", running=running)
        result = running.finish()
    assert result.select(action="http", decision="allow", reason="rego_allow"), result
    assert result.select(action="http", decision="deny", reason="rego_deny") or result.select(reason="policy_changed"), result
