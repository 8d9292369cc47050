"""The privacy section is read again while the sandbox runs: what it says holds for the next call, also on a connection that is older."""

from __future__ import annotations

import itertools
import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from framework.internet import CLOUD, Internet
from framework.machine import Machine, Record, Running, wait_for
from framework.models import LocalModel
from framework.patience import PATIENCE
from framework.policy import http, relay, whole
from stockade.service.control import ask, running
from stockade.service.settings import Settings

INSIDE = Path(__file__).parent / "inside"
PYTHON = "/usr/bin/python3"
OPENAI = CLOUD[0]
CONTROL = Settings().control
MODELS = http("python3", OPENAI, methods=["POST"], name="models")

pytestmark = pytest.mark.client(PYTHON)


class Talk:
    """One agent that says what the test wants said, under one policy after the other."""

    def __init__(self, machine: Machine, script: str, text: str) -> None:
        self.room = machine.room({script: (INSIDE / script).read_text()})
        self.name = f"privacy-{os.getpid()}-{self.room.name}"
        self._numbers = itertools.count(1)
        options = ["--name", self.name, "--metrics", "127.0.0.1:0"]
        self.run: Running = machine.start([PYTHON, script, OPENAI], policy=text, room=self.room, options=options)
        wait_for(lambda: self.name in running(CONTROL), "the control socket", running=self.run)

    def say(self, text: str) -> int:
        """The status of one call."""
        self.said = next(self._numbers)
        work = self.room / "work"
        (work / "new").write_text(json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": text}]}))
        (work / "new").rename(work / f"ask-{self.said}")
        wait_for((work / f"answer-{self.said}").exists, "an answer", running=self.run)
        return int((work / f"answer-{self.said}").read_text().partition(" ")[0])

    def record(self) -> Record:
        """Of the call that was last."""
        records = wait_for(lambda: (found := self.calls())[self.said - 1 :] and found, "its record", running=self.run)
        assert len(records) == self.said
        return records[-1]

    def calls(self) -> list[Record]:
        return [record for record in self.run.records() if record["action"] in ("http", "inference")]

    def metric(self, name: str, **labels: str) -> float | None:
        """What the page of the agent says of the sandbox; None where it says nothing."""
        with urllib.request.urlopen(ask(CONTROL, self.name, "status")["metrics"], timeout=20 * PATIENCE) as page:
            found = text_string_to_metric_families(page.read().decode())
            values = [
                each.value for family in found for each in family.samples if each.name == name and labels.items() <= each.labels.items()
            ]
        return values[0] if values else None

    def change(self, text: str) -> None:
        new = self.room / "policy.new"
        new.write_text(text)
        new.rename(self.room / "policy.yaml")
        self.reload()

    def reload(self) -> None:
        answer = ask(CONTROL, self.name, "reload")
        assert answer["switched"], answer


@pytest.fixture
def local() -> Iterator[LocalModel]:
    model = LocalModel()
    yield model
    model.close()


def policy(rule: dict[str, Any] = MODELS, **privacy: Any) -> str:
    return whole(rule, allow=["python3"], privacy={"on_failure": "pass", **privacy})


def custom(pattern: str) -> dict[str, Any]:
    return {"custom": [{"name": "wards", "pattern": pattern, "category": "ip.ward"}]}


def test_each_part_of_the_section_holds_for_the_next_call(machine: Machine, internet: Internet, local: LocalModel) -> None:
    routes = [{"name": "wards", "when": ["ip.*"], "then": "deny"}]
    talk = Talk(machine, "asks_on.py", policy(detect=custom("W-[0-9]+"), routes=routes))
    with talk.run:
        # a pattern, and another one
        assert [talk.say(f"in {ward} today") for ward in ("W-7", "X-7")] == [403, 200]
        talk.change(policy(detect=custom("X-[0-9]+"), routes=routes))
        assert [talk.say(f"in {ward} today") for ward in ("W-7", "X-7")] == [200, 403]
        record = talk.record()
        assert (record["reason"], record["rule"], record["sandbox"]["generation"]) == ("privacy_route", "wards", 2)
        # a dictionary, and what is written into its file
        terms = talk.room / "terms.txt"
        terms.write_text("Project Amaranth\n")
        listed = {"dictionaries": [{"name": "projects", "category": "ip.project", "file": "terms.txt"}]}
        talk.change(policy(detect=listed, routes=routes))
        assert [talk.say(f"status of project {name}?") for name in ("amaranth", "basalt")] == [403, 200]
        terms.write_text("Project Basalt\n")
        talk.reload()
        assert [talk.say(f"status of project {name}?") for name in ("amaranth", "basalt")] == [200, 403]
        # a threshold; each name is another one, since what was taken out once is taken out again
        names = ("Jonathan Whitfield", "Margaret Holloway", "Robert Ellison")
        for name, threshold, effect in zip(names, (0.5, 1, 0.5), ("redact", "pass", "redact"), strict=True):
            talk.change(policy(detect={"thresholds": {"pii.*": threshold}}))
            talk.say(f"Ask {name} to call back tomorrow.")
            assert talk.record()["effect"] == effect, name
        # a route, the local model, the mode
        mail = "write to jane.doe@example.org please"
        led: dict[str, Any] = {"routes": [{"name": "home", "when": ["pii.contact"], "then": "local"}]}
        talk.change(policy(**led))
        assert (talk.say(mail), talk.record()["reason"], local.heard) == (403, "privacy_local_failure", [])
        for model in ("first", "second"):
            talk.change(policy(**led, local={"url": f"http://localhost:{local.port}", "model": model}))
            assert (talk.say(mail), talk.record()["effect"], json.loads(local.heard[-1].body)["model"]) == (200, "local", model)
        talk.change(policy(mode="audit"))
        assert talk.say(mail) == 200
        record = talk.record()
        assert (record["effect"], record["detail"]["would"]) == ("pass", "redact")
        assert mail.encode() in internet.heard[OPENAI][-1].body


def test_the_router_is_switched_on_and_off_while_a_connection_lives(machine: Machine, internet: Internet) -> None:
    key = "my key is AKIAQ3EGRTSY5ZPWN7VU"
    off = whole(MODELS, allow=["python3"])
    talk = Talk(machine, "asks_on.py", off)
    with talk.run:
        assert (talk.say(key), talk.record()["action"]) == (200, "http")
        talk.change(policy())
        heard = len(internet.heard[OPENAI])
        assert (talk.say(key), talk.record()["reason"], len(internet.heard[OPENAI])) == (403, "privacy_default", heard)
        talk.change(off)
        assert (talk.say(key), talk.record()["action"]) == (200, "http")


def test_a_relay_to_a_model_is_cut_when_calls_are_to_be_read(machine: Machine, internet: Internet) -> None:
    blind = relay("python3", OPENAI, tls="passthrough", name="blind")
    talk = Talk(machine, "tunnel.py", whole(blind, allow=["python3"]))
    with talk.run as run:
        run.wait_for("up", talk.room / "work/tunnel.log")
        talk.change(policy(blind, mode="audit"))  # which changes nothing
        assert (talk.room / "work/tunnel.log").read_text() == "up\n"
        talk.change(policy(blind))
        run.wait_for("cut", talk.room / "work/tunnel.log")
        (record,) = run.finish().select(action="connect", effect="cut")
    assert (record["level"], record["reason"], record["sandbox"]["generation"]) == ("privacy", "policy_changed", 3)


@pytest.mark.parametrize("way", ["socket", "body"])
def test_what_began_unread_is_cut_when_calls_are_to_be_read(machine: Machine, internet: Internet, way: str) -> None:
    rule = http("python3", OPENAI, methods=["GET", "PUT"], name="models")
    name = f"held-{way}-{os.getpid()}"
    room = machine.room({"holds.py": (INSIDE / "holds.py").read_text()})
    uploads = len(internet.cloud[OPENAI].uploads)
    with machine.start(
        [PYTHON, "holds.py", OPENAI, way], policy=whole(rule, allow=["python3"]), room=room, options=["--name", name]
    ) as run:
        log = room / "work" / "holds.log"
        run.wait_for("up", log)
        for text in (policy(rule, mode="audit"), policy(rule)):  # the first changes nothing
            assert log.read_text() == "up\n"
            (room / "policy.yaml").write_text(text)
            answer = ask(CONTROL, name, "reload")
            assert answer["switched"], answer
        (room / "work" / "more").touch()
        run.wait_for("cut", log)
        result = run.finish()
    (record,) = result.select(effect="cut")
    assert (record["reason"], record["destination"]["host"], record["sandbox"]["generation"]) == ("policy_changed", OPENAI, 1), result
    assert "wanted it read" in record["detail"]["error"], record
    assert record["http"]["request_bytes"] == len(b"before"), record
    assert len(internet.cloud[OPENAI].uploads) == uploads  # none that is whole


class Held:
    """A local model that answers when it is let; arrived: a call is there."""

    def __init__(self, model: LocalModel, status: int | None = None) -> None:
        self.arrived, self.let = threading.Event(), threading.Event()
        handler: Any = model.server.RequestHandlerClass
        reply = handler.do_POST

        def held(request: Any) -> None:
            self.arrived.set()
            assert self.let.wait(120 * PATIENCE)
            if status is None:
                reply(request)
            else:
                request.body()
                request.answer(b"{}", status=status)

        handler.do_POST = held


@pytest.mark.parametrize("status", [None, 503])
def test_a_call_that_waits_for_the_local_model_while_the_policy_changes(
    machine: Machine, internet: Internet, local: LocalModel, status: int | None
) -> None:
    """It goes where it was sent if the local model takes it; if not, the newest policy decides what becomes of it."""
    mail = "write to jane.doe@example.org please"
    at = {"url": f"http://localhost:{local.port}", "model": "first"}
    led = [{"name": "home", "when": ["pii.contact"], "then": "local"}]
    kept = [{"name": "kept", "when": ["pii.contact"], "then": "deny"}]
    held, heard = Held(local, status), len(internet.heard[OPENAI])
    talk = Talk(machine, "asks_on.py", policy(routes=led, local=at, on_local_failure="redact"))
    with talk.run, ThreadPoolExecutor(1) as apart:
        asked = apart.submit(talk.say, mail)
        wait_for(held.arrived.is_set, "the call at the local model", running=talk.run)
        wait_for(lambda: talk.metric("stockade_local_model_running") == 1, "that it is counted", running=talk.run)
        talk.change(policy(routes=kept))
        assert not asked.done()
        held.let.set()
        assert asked.result() == (200 if status is None else 403)
        first = wait_for(talk.calls, "its record", running=talk.run)
        outcome = "answered" if status is None else "refused"
        wait_for(lambda: talk.metric("stockade_local_model_calls_total", outcome=outcome) == 1, "the metric", running=talk.run)
        assert (talk.say(mail), talk.calls()[-1]["rule"], len(internet.heard[OPENAI])) == (403, "kept", heard)
    assert (first[0]["sandbox"]["generation"], first[0]["rule"]) == (1, "home")
    if status is None:
        assert (first[0]["effect"], len(local.heard)) == ("local", 1)
    else:
        assert (first[0]["effect"], first[0]["reason"]) == ("refuse", "privacy_local_failure")
        again = talk.calls()[1]
        assert (again["rule"], again["sandbox"]["generation"], again["effect"]) == ("kept", 2, "refuse")
