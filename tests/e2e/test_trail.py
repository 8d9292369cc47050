"""The trail of a whole run: kept and passed on as the settings file says, and what happens when it cannot be written."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.internet import ECHO
from framework.machine import STOCKADE, Machine, read_records, wait_for
from framework.policy import http, whole
from stockade.audit import verify
from stockade.audit.parts import closed, numbered
from stockade.types import Reason
from unit.audit.sinks import receivers
from unit.audit.sinks.receivers import Receiver

pytestmark = pytest.mark.client("curl")

RUNS = ("sh", "coreutils", "curl")
ASK = f'curl -s -o /dev/null -w "%{{http_code}}" --max-time 20 https://{ECHO}/'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver(receivers.webhook)
    yield found
    found.close()


def test_records_reach_the_sinks_of_the_settings_file(machine: Machine, receiver: Receiver) -> None:
    room = machine.room()
    settings, copy = room / "stockade.yaml", room / "copy"
    settings.write_text(f"""\
audit:
  pin: {room}
  rotate: {{size: 6K}}
  checkpoint: {{records: 5, seconds: 0.2}}
  sinks:
    - type: http
      url: {receiver.url}/hook?team=a
      token: env:STOCKADE_TEST_TOKEN
      headers: {{X-Org: "7"}}
    - {{type: file, name: copy, path: {copy}, format: ocsf, rotate: {{size: 1M}}}}
    - {{type: syslog, address: "127.0.0.1:9", transport: tcp}}
  drain: 2s
""")
    script = f"for i in 1 2 3 4; do {ASK}a$i; echo; sleep 0.3; done; curl -s https://elsewhere.example/; env | grep -c TOKEN; true"
    result = machine.run(
        ["sh", "-c", script],
        policy=whole(http("curl", ECHO), allow=[*RUNS, "grep"]),
        room=room,
        options=["--settings", settings],
        env={"STOCKADE_TEST_TOKEN": "s3cret"},
    )
    assert result.stdout.split() == ["200"] * 4 + ["0"], "the sandbox has no part of it"
    files = [*(numbered(result.audit, number) for number in closed(result.audit)), result.audit]
    assert len(files) > 2, result
    records = [record for file in files for record in read_records(file)]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert receiver.records == records, "all of it, in order, as it stands in the trail"
    assert {(one["decision"], one["reason"]) for one in receiver.records} >= {("allow", "rule_allow"), ("deny", "no_rule")}
    assert len([json.loads(line) for line in copy.read_bytes().splitlines()]) == len(records)
    assert "sink syslog: 127.0.0.1:9: [Errno 111] Connection refused; records wait in the trail" in result.stderr
    (pin,) = room.glob("*-audit.jsonl.head")
    assert verify(result.audit, head=pin).ok and verify(result.audit).records == len(records)


def test_settings_that_cannot_be_used_start_nothing(machine: Machine) -> None:
    room = machine.room()
    for name, text, code in (
        ("work/inside.yaml", "version: 1\n", "writable_source"),
        ("bad.yaml", "audit: {sinks: [{type: http}]}\n", "needs_key"),
        ("secret.yaml", "audit: {sinks: [{type: http, url: 'https://x', token: 'file:/nonexistent'}]}\n", "sink_secret"),
    ):
        (room / name).write_text(text)
        result = machine.run("echo started", policy=whole(allow=RUNS), room=room, options=["--settings", room / name])
        assert (result.status, result.stdout) == (125, ""), result
        assert f"[{code}]" in result.stderr, result


@pytest.mark.parametrize("stated", ["deny", "continue"])
def test_a_disk_that_is_full_for_a_while(machine: Machine, small_disk: Path, stated: str) -> None:
    script = f"""\
for word in before full roomy; do
  until [ -e $word ]; do sleep 0.1; done
  for i in 1 2 3; do echo "$word $({ASK}$word)"; done
  touch $word.done
done
"""
    work = small_disk / "work"
    policy = whole(http("curl", ECHO), allow=RUNS, on_audit_failure=stated)
    with machine.start(["sh", "-c", script], policy=policy, room=small_disk) as running:

        def say(word: str) -> None:
            (work / word).touch()
            wait_for(lambda: (work / f"{word}.done").exists(), word, 90, running)

        say("before")
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 256)
        say("full")
        filler.unlink()
        say("roomy")
        result = running.finish()
    said = {word: [line.split()[1] for line in result.stdout.splitlines() if line.startswith(word)] for word in ("before", "full", "roomy")}
    assert said["before"] == ["200"] * 3, result
    gaps = result.select(reason=Reason.AUDIT_UNAVAILABLE, effect="pass")
    assert gaps and sum(gap["detail"]["missed"] for gap in gaps) > 0 and "No space left" in gaps[0]["detail"]["error"], result
    if stated == "continue":
        assert said["full"] == said["roomy"] == ["200"] * 3, result
        assert "it goes on without, as the policy says" in result.stderr, result
        paths = [record["http"]["path"] for record in result.select(action="http")]
        assert paths.count("/before") == paths.count("/roomy") == 3, "what happens once there is room is on record again"
    else:
        assert "200" not in said["full"][1:] + said["roomy"], result
        assert "nothing is allowed from here on" in result.stderr, result
    verified = subprocess.run([STOCKADE, "audit", "verify", result.audit], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
