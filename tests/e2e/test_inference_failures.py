"""The classifier dies while it reads: what waited is refused, another takes its place, and everything is on record."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from framework.asked import OPENAI, PYTHON, STAFF, Talk, chat, policy, said
from framework.internet import Internet
from framework.machine import Machine, wait_for

pytestmark = pytest.mark.client(PYTHON)


def classifier_of(agent: int) -> int | None:
    """The process that reads for the sandboxes of an agent."""
    children = [child for task in Path(f"/proc/{agent}/task").iterdir() for child in (task / "children").read_text().split()]
    return next((int(child) for child in children if b"privacy.serve.process" in Path(f"/proc/{child}/cmdline").read_bytes()), None)


def unread(process: int) -> int:
    """Octets that wait in its sockets."""
    listed = subprocess.run(["ss", "-xaHp"], capture_output=True, text=True, check=True).stdout
    return sum(int(line.split()[2]) for line in listed.splitlines() if f"pid={process}," in line)


def test_a_classifier_that_is_killed_in_the_middle_of_a_call_lets_nothing_pass(machine: Machine, internet: Internet) -> None:
    before = len(internet.heard[OPENAI])
    with Talk(machine, policy()) as talk:
        agent = talk.running.process.pid
        assert said(talk.ask(chat(f"Greet {STAFF}."))) == f"You said: Greet {STAFF}."
        first = classifier_of(agent)
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # from here on it answers nothing
        talk.begin(chat("Write a letter to nobody."))
        wait_for(lambda: unread(first), "the question to be asked", running=talk.running)
        os.kill(first, signal.SIGKILL)
        answer = talk.answer()
        assert answer["status"] == 403, answer
        assert "privacy_failure" in answer["body"]
        second = wait_for(lambda: classifier_of(agent), "another classifier", running=talk.running)
        assert second != first
        while (answer := talk.ask(chat(f"Greet {STAFF} again.")))["status"] == 403:
            assert "privacy_failure" in answer["body"], answer
        assert said(answer) == f"You said: Greet {STAFF} again."  # the vault is not the classifier's: it outlives it
        result = talk.finish()
    heard = internet.heard[OPENAI][before:]
    assert len(heard) == 2
    assert not [each for each in heard if b"letter" in each.body]
    refused = result.select(action="inference", decision="deny")
    assert refused
    assert {record["reason"] for record in refused} == {"privacy_failure"}
    assert refused[0]["detail"]["why"] == "lost"
    assert {record["detail"]["why"] for record in refused} <= {"lost", "no_classifier"}
