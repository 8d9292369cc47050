"""What the record of a call tells, beside what is known of it from outside; and that an answer is passed on while it comes."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
from collections.abc import Iterator

import pytest

from framework import models
from framework.asked import ANTHROPIC, OPENAI, PYTHON, STAFF, Request, Talk, chat, message, policy, post, said
from framework.internet import EU, Internet
from framework.machine import STOCKADE, Machine, wait_for
from stockade.privacy.ner import MODEL

pytestmark = pytest.mark.client(PYTHON)
LOOSE = [{"name": "guesses", "when": ["pii.person", "pii.contact", "pii.government", "financial.*", "phi.*"], "then": "pass"}]


def test_a_record_tells_all_that_was_decided_by_and_nothing_that_was_said(machine: Machine, internet: Internet) -> None:
    called = {"id": "a", "type": "function", "function": {"name": "find_shift", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": f"When does {STAFF} work?"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "a", "content": "at night"},
        {"role": "user", "content": "Thanks."},
    ]
    asked = post(f"https://{OPENAI}/v1/chat/completions", json.dumps({"model": "gpt-4o", "messages": turns}))
    with Talk(machine, policy(residency={OPENAI: "US"}, routes=LOOSE)) as talk:
        assert talk.ask(asked)["status"] == 200
        assert talk.ask(chat("hello"))["status"] == 200
        result = talk.finish()
    record, plain = result.select(action="inference")
    detail = record["detail"]
    assert (record["effect"], record["reason"], record["rule"]) == ("redact", "privacy_default", "default:persons")
    assert detail["prompt_sha256"] == hashlib.sha256(asked["body"].encode()).hexdigest()
    answered = json.dumps(models._openai("You said: Thanks.", "gpt-4o")).encode()
    assert detail["answer_sha256"] == hashlib.sha256(answered).hexdigest()
    assert (detail["api"], detail["model"], detail["residency"]) == ("openai_chat", "gpt-4o", "US")
    assert detail["tools"] == ["find_shift"]
    assert detail["answer_tools"] == []
    assert "pii.staff=1" in detail["categories"]
    assert detail["redacted"] == ["pii.staff=1"]
    versions = dict(each.split("=", 1) for each in detail["detectors"])
    assert versions.keys() == {"pattern", "credential", "document", "model"}
    assert detail["classifier_sha256"] == hashlib.sha256((MODEL / "model.onnx").read_bytes()).hexdigest()
    assert versions["model"].endswith(detail["classifier_sha256"][:12])
    assert detail["provider"] in ("CPUExecutionProvider", "CUDAExecutionProvider")
    for name in ("read_us", "classified_us", "decided_us", "first_ms", "answered_ms"):
        assert isinstance(detail[name], int), name
        assert detail[name] >= 0
    assert detail["first_ms"] <= detail["answered_ms"]
    assert detail["classified_us"] > detail["read_us"]
    assert "redacted" not in plain["detail"]
    trail = result.audit.read_text()
    assert not [each for each in (STAFF, "Oduya", "at night", "Thanks") if each in trail]


def test_what_is_registered_while_a_sandbox_runs_is_held_back_from_then_on(machine: Machine, internet: Internet) -> None:
    word = secrets.token_hex(4)
    secret = f"The blend {word} is aged for nine winters in barrels of wild cherry and turned by hand at each second full moon of a year."
    document = machine.room({"blend.txt": secret}) / "work" / "blend.txt"

    def register(*words: str) -> list[dict[str, str]]:
        done = subprocess.run(
            [STOCKADE, "privacy", "register", *words, "-o", "json"], capture_output=True, text=True, timeout=60, check=True
        )
        return list(json.loads(done.stdout))

    routes = [{"name": "registered", "when": ["ip.document"], "then": "deny"}, *LOOSE]
    with Talk(machine, policy(routes=routes)) as talk:
        assert talk.ask(chat(secret))["status"] == 200
        (known,) = [each["id"] for each in register(str(document)) if each["name"] == "blend.txt"]
        try:
            wait_for(lambda: talk.ask(chat(secret))["status"] == 403, "the document to be known", running=talk.running)
        finally:
            register("--remove", known)
        wait_for(lambda: talk.ask(chat(secret))["status"] == 200, "the document to be forgotten", running=talk.running)
        result = talk.finish()
    records = result.select(action="inference")
    refused = [record for record in records if record["decision"] == "deny"]
    assert {record["rule"] for record in refused} == {"registered"}
    versions = [dict(each.split("=", 1) for each in record["detail"]["detectors"]) for record in (records[0], refused[0])]
    assert versions[0]["document"] != versions[1]["document"]
    assert versions[0]["model"] == versions[1]["model"]


@pytest.fixture
def gate() -> Iterator[None]:
    yield
    models.gate = None


@pytest.mark.usefixtures("gate")
def test_an_answer_is_passed_on_while_it_comes_in_every_form_of_a_stream(machine: Machine, internet: Internet) -> None:
    """The server sends the rest when the client has the beginning: an answer that is held back until it is whole never ends."""
    text = f"Ask {STAFF} about the rota."
    ollama = {"model": "m", "messages": [{"role": "user", "content": text}]}
    asked: list[Request] = [
        chat(text, stream=True),
        message(text, stream=True),
        post(f"https://{EU}/api/chat", json.dumps(ollama | {"stream": True})),
    ]
    with Talk(machine, policy(routes=LOOSE)) as talk:
        for each in asked:
            (talk.work / "began").unlink(missing_ok=True)
            models.gate = lambda: wait_for((talk.work / "began").exists, "the beginning, inside", 30, talk.running)
            answer = talk.ask(each)
            assert answer["status"] == 200, answer
            if "/api/chat" in each["url"]:
                whole = "".join(json.loads(line)["message"]["content"] for line in answer["body"].splitlines())
            else:
                whole = said(answer)
            assert whole == f"You said: {text}"
            assert len(answer["first"]) < len(answer["body"])
        result = talk.finish()
    assert [record["effect"] for record in result.select(action="inference")] == ["redact"] * 3
    for host in (OPENAI, ANTHROPIC, EU):
        assert b"Oduya" not in internet.heard[host][-1].body
