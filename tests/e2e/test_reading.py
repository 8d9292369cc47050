"""From the refusal that a program gets to why, with one command; and the report of what really ran."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from framework.internet import ECHO, OTHER
from framework.machine import STOCKADE, Machine, Running, wait_for
from framework.policy import bare, http, whole
from stockade.audit.formats import BY_NAME

pytestmark = pytest.mark.client("curl")


def audit(*words: str | Path, status: int = 0) -> str:
    done = subprocess.run([STOCKADE, "audit", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done
    return done.stdout


def refusal(machine: Machine, path: str, policy: str) -> tuple[dict[str, Any], Path]:
    """The body of a 403, and the trail."""
    room = machine.room()
    result = machine.run(f"curl -sS -o body https://{ECHO}{path}", policy=policy, room=room)
    answer: dict[str, Any] = json.loads((room / "work" / "body").read_text())
    return answer, result.audit


def test_the_command_in_a_refusal_says_why_and_where_the_rule_stands(machine: Machine) -> None:
    answer, trail = refusal(machine, "/closed/x", bare(http("curl", ECHO, paths=["/open/**"], name="only-open")))
    command, name = answer["explain"].split(), answer["record"]
    assert command == ["stockade", "audit", "show", name]
    text = audit(*command[2:], trail)
    assert text.startswith(f"{name}: refused\n")
    assert re.search(rf"asked +curl asked for GET {re.escape(ECHO)}:443/closed/x\n", text), text
    assert "no rule of the policy allows it" in text and "(no_rule)" in text and "on other paths" in text
    policy = trail.parent / "policy.yaml"
    line = 1 + next(number for number, each in enumerate(policy.read_text().splitlines()) if "only-open" in each)
    assert f"rule      only-open: curl -> {ECHO}" in text and f"{policy}:{line}\n" in text, text
    told = json.loads(audit("show", name, trail, "-o", "json"))
    record = json.loads(trail.read_text().splitlines()[told["line"] - 1])
    assert (record["seq"], record["hash"]) == (told["record"]["seq"], told["record"]["hash"]) and name == told["id"]
    assert record["http"]["path"] == answer["path"] and record["detail"]["approval"] == answer["approval"]


def test_while_it_runs_nobody_has_to_say_where_its_trail_is(machine: Machine) -> None:
    policy = whole(http(["curl"], ECHO, methods=["HEAD"]), allow=["sh", "curl", "coreutils"])
    script = f"curl -sS -o body https://{ECHO}/x; touch done; sleep 60"
    room = machine.room()
    with machine.start(["sh", "-c", script], policy=policy, room=room, options=["--name", f"read-{os.getpid()}"]) as running:
        _wait(running, room / "work" / "done")
        name = json.loads((room / "work" / "body").read_text())["record"]
        assert f"{room / 'audit.jsonl'}:" in audit("show", name)
        seen = audit("grep", "--sandbox", f"read-{os.getpid()}", "--decision", "deny", "--since", "5m", "-o", "json")
        assert json.loads(seen.splitlines()[0])["http"]["path"] == "/x"


def _wait(running: Running, path: Path) -> None:
    wait_for(path.exists, str(path), running=running)


def test_a_patient_in_a_path_is_in_no_refusal_and_no_record(machine: Machine) -> None:
    answer, trail = refusal(machine, "/fhir/Patient/8473920/notes", bare(http("curl", ECHO, paths=["/open/**"])))
    assert answer["path"] == "/fhir/Patient/***/notes"
    assert "8473920" not in json.dumps(answer) + audit("tail", trail) + audit("export", trail, "--format", "ecs")
    assert "8473920" not in "".join(each.read_text(errors="replace") for each in trail.parent.glob("audit.jsonl*"))


def test_the_report_of_a_run_names_what_was_refused_and_what_the_policy_leaves_open(machine: Machine, tmp_path: Path) -> None:
    policy = whole(http("curl", ECHO, methods=["GET"]), allow=["sh", "curl"], process={"memory": "512M", "pids": 100})
    script = f"curl -sS -o one https://{ECHO}/x; curl -sS -o two -X PUT https://{ECHO}/y; curl -sS https://{OTHER}/ ; true"
    result = machine.run(["sh", "-c", script], policy=policy, options=["--label", "agent=tester"])
    assert result.status == 0, result
    page = tmp_path / "report.html"
    (said,) = json.loads(audit("report", result.audit, "--framework", "eu-ai-act", "--to", page, "-o", "json"))
    denied = [record for record in result.records if record["decision"] == "deny"]
    assert (said["records"], said["refused"], said["verified"]) == (len(result.records), len(denied), True)
    text = re.sub(r"<[^>]*>", "", page.read_text())
    assert "The trail is whole" in text and "agent=tester" in text and "EU AI Act" in text
    assert re.search(rf"curl PUT {re.escape(ECHO)}:443/y", text) and OTHER in text
    assert "process.pids=100" in text and "process.memory=536870912" in text and "process.cpu is not set" in text
    assert "what one rule allows is open on every path (/**)" in text and f"{result.audit.parent / 'policy.yaml'}:" in text


def test_every_record_of_a_run_is_exported_in_every_form(machine: Machine) -> None:
    result = machine.run(f"curl -sS https://{ECHO}/x", policy=bare(http("curl", ECHO)))
    for form in BY_NAME:
        lines = audit("export", result.audit, "--format", form).splitlines()
        assert len(lines) == len(result.records) and all(line.isascii() and line.isprintable() for line in lines)
        if form == "cef":
            assert all(line.startswith("CEF:0|Stockade|Stockade|") for line in lines)
        else:
            assert all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"curl -sS -o body http://{ECHO}:9/x", "upstream_unreachable"),
        (f"printf 'GET\\r\\n\\r\\n' | curl -sS -o body telnet://{ECHO}:80", "protocol_error"),
    ],
)
def test_an_answer_in_place_of_the_server_names_its_record_whatever_the_reason(machine: Machine, script: str, reason: str) -> None:
    room = machine.room()
    policy = whole(http("curl", f"{ECHO}:9", f"{ECHO}:80"), allow=["sh", "curl", "coreutils"])
    result = machine.run(["sh", "-c", f"{script}; true"], policy=policy, room=room)
    body = (room / "work" / "body").read_text()
    answer = json.loads(body[body.index("{") :])
    assert answer["reason"] == reason
    told = json.loads(audit(*answer["explain"].split()[2:], result.audit, "-o", "json"))["record"]
    assert [told] == result.select(reason=reason) and (told["decision"], told["effect"]) == (
        "allow" if reason == "upstream_unreachable" else "deny",
        "refuse",
    )
