"""The privacy router, live: an agent in a sandbox speaks to models in a cloud, and what they were told is in their own logs.

Names are found here by `custom` patterns beside the detectors of forms, so that what is proven is the way of a call and not how well a
model guesses; on_failure says what holds where a layer of the classifier is missing.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from framework import asked
from framework.asked import ANTHROPIC, MRN, OPENAI, PATIENT, PYTHON, STAFF, chat, message, octets, post, said, say
from framework.internet import CLOUD, EU, Internet
from framework.machine import Machine
from framework.models import LocalModel
from framework.policy import relay, whole
from stockade.privacy import ner

BORN, IBAN = "03/14/1961", "DE89 3704 0044 0532 0130 00"

pytestmark = pytest.mark.client(PYTHON)


@pytest.fixture
def local() -> Iterator[LocalModel]:
    model = LocalModel()
    yield model
    model.close()


# Without the model, where a machine has none: its layer is missing then, and that alone decides nothing here
policy = functools.partial(asked.policy, hosts=(EU,), on_failure="pass")


def test_the_clinical_workflow(machine: Machine, internet: Internet, local: LocalModel) -> None:
    before = len(internet.heard[OPENAI])
    rows = [
        chat(f"Patient {PATIENT}, DOB {BORN}, MRN: {MRN}. Write a summary."),
        chat("Patient presents with ICD-10 E11.9; HbA1c 9.1 %, glucose 212 mg/dL."),
        chat("Summarize in SOAP format"),
        chat("Describe the usual department structure of a hospital."),
        chat(f"Put the schedule of {STAFF} into a table."),
    ]
    answers, result = say(machine, rows, policy(local))
    assert [answer["status"] for answer in answers] == [200] * 5, result
    cloud = internet.heard[OPENAI][before:]
    for secret in (PATIENT, "Achterberg", BORN, MRN, "E11.9", "9.1", "212", STAFF, "Oduya"):
        assert secret.encode() not in octets(cloud), secret
    assert [b"SOAP" in each.body for each in cloud] == [True, False, False]
    assert len(cloud) == 3
    assert len(local.heard) == 2
    assert PATIENT.encode() in local.heard[0].body
    assert MRN.encode() in local.heard[0].body
    assert b"E11.9" in local.heard[1].body
    assert b"cloud-credential-1" not in octets(local.heard)
    assert b"schedule of [" in cloud[2].body
    assert said(answers[4]) == f"You said: Put the schedule of {STAFF} into a table."
    assert PATIENT in said(answers[0])
    records = result.select(action="inference")
    assert [record["effect"] for record in records] == ["local", "local", "pass", "pass", "redact"]
    assert {record["level"] for record in records} == {"privacy"}
    assert [record["rule"] for record in records] == ["default:patients", "default:patients", "models", "models", "default:persons"]
    assert [record["detail"].get("residency") for record in records] == ["local", "local", None, None, None]
    assert records[4]["detail"]["redacted"] == ["pii.staff=1"]
    assert all(len(record["detail"]["prompt_sha256"]) == len(record["detail"]["answer_sha256"]) == 64 for record in records)
    assert not result.select(action="http")
    trail = result.audit.read_text()
    assert not [secret for secret in (PATIENT, BORN, MRN, STAFF) if secret in trail]


@pytest.mark.skipif(
    not (ner.MODEL / "manifest.json").exists(), reason="without the model nothing is wholly read, and require_residency refuses what is not"
)
def test_the_financial_workflow(machine: Machine, internet: Internet) -> None:
    eu, cloud = len(internet.heard[EU]), len(internet.heard[OPENAI])
    labels: dict[str, Any] = {"residency": {EU: "EU", OPENAI: "US"}, "require_residency": {"financial.*": ["EU"]}}
    routes = [{"when": ["financial.*", "pii.*"], "endpoint": EU, "then": "pass"}]
    requests = [
        chat(f"Book 250 EUR to {IBAN} for the customer.", EU),
        chat("Write a template for a payment reminder."),
        chat(f"Book 250 EUR to {IBAN} for the customer."),
    ]
    answers, result = say(machine, requests, policy(**labels, routes=routes))
    assert [answer["status"] for answer in answers] == [200, 200, 403], result
    assert IBAN.encode() in internet.heard[EU][eu:][0].body
    assert len(internet.heard[OPENAI]) == cloud + 1
    assert b"3704" not in octets(internet.heard[OPENAI][cloud:])
    records = result.select(action="inference")
    assert [(record["effect"], record["detail"].get("residency")) for record in records[:2]] == [("pass", "EU"), ("pass", "US")]
    assert (records[2]["decision"], records[2]["reason"]) == ("deny", "privacy_residency")


def test_streams_are_restored_with_a_placeholder_cut_in_two(machine: Machine, internet: Internet) -> None:
    before = {host: len(internet.heard[host]) for host in (OPENAI, ANTHROPIC)}
    text = f"Ask {STAFF} about the rota, then ask {STAFF} again."
    answers, result = say(machine, [chat(text, stream=True), message(text, stream=True), message(text)], policy())
    assert [said(answer) for answer in answers] == [f"You said: {text}"] * 3, result
    for host, count in before.items():
        heard = octets(internet.heard[host][count:])
        assert b"Oduya" not in heard
        assert b"[STAFF-" in heard
    assert [record["effect"] for record in result.select(action="inference")] == ["redact"] * 3


def test_what_may_not_leave_or_cannot_be_read_is_refused_in_words_of_the_api(machine: Machine, internet: Internet) -> None:
    before = {host: len(internet.heard[host]) for host in (OPENAI, ANTHROPIC)}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(b"\x89PNG" * 40).decode()}}
    requests = [
        chat("my key is AKIAQ3EGRTSY5ZPWN7VU"),
        message("my key is AKIAQ3EGRTSY5ZPWN7VU"),
        chat("x", messages=[{"role": "user", "content": [{"type": "text", "text": "what is this?"}, image]}]),
        post(f"https://{OPENAI}/v1/chat/completions", "not json"),
        post(f"https://{OPENAI}/v1/something/new", "{}"),
        chat("x" * (17 << 20)),
        {"url": f"https://{OPENAI}/v1/realtime", "method": "GET", "headers": {"Upgrade": "websocket", "Connection": "Upgrade"}},
    ]
    answers, result = say(machine, requests, policy())
    assert [answer["status"] for answer in answers] == [403] * len(requests), result
    assert {host: len(internet.heard[host]) for host in before} == before
    assert json.loads(answers[0]["body"])["error"]["code"] == "privacy"
    assert json.loads(answers[1]["body"])["error"]["type"] == "permission_error"
    records = result.select(action="inference")
    assert [record["reason"] for record in records] == ["privacy_default"] * 2 + ["privacy_unreadable"] * 5
    assert [record["detail"].get("why") for record in records[2:]] == ["image", "not_json", "unknown_body", "too_large", "unknown_body"]


def test_audit_mode_records_and_changes_nothing(machine: Machine, internet: Internet) -> None:
    before = len(internet.heard[OPENAI])
    requests = [chat("my key is AKIAQ3EGRTSY5ZPWN7VU"), chat(f"the schedule of {STAFF}")]
    answers, result = say(machine, requests, policy(mode="audit"))
    assert [answer["status"] for answer in answers] == [200, 200], result
    assert b"AKIAQ3EGRTSY5ZPWN7VU" in internet.heard[OPENAI][before].body
    assert STAFF.encode() in internet.heard[OPENAI][before + 1].body
    refused, redacted = result.select(action="inference")
    assert (refused["decision"], refused["effect"], refused["enforced"], refused["detail"]["would"]) == ("deny", "pass", False, "refuse")
    assert redacted["detail"]["would"] == "redact"


def test_without_all_layers_everything_is_refused_unless_the_policy_says_otherwise(machine: Machine, internet: Internet) -> None:
    """Here the local model is dead, too: what would go there goes nowhere."""
    before = len(internet.heard[OPENAI])
    dead = LocalModel()
    dead.close()
    answers, result = say(machine, [chat(f"Patient {PATIENT}, MRN: {MRN}")], policy(dead))
    assert answers[0]["status"] == 403, result
    (record,) = result.select(action="inference")
    assert (record["effect"], record["reason"]) == ("refuse", "privacy_local_failure")
    assert len(internet.heard[OPENAI]) == before


def test_a_connection_that_nobody_looks_into_does_not_lead_to_a_model(machine: Machine, internet: Internet) -> None:
    before = len(internet.cloud[OPENAI].connections)
    rule = relay("python3", OPENAI, tls="passthrough", name="blind")
    text = whole(rule, allow=["python3"], privacy={"on_failure": "pass"})
    answers, result = say(machine, [chat("hello")], text)
    assert answers[0]["status"] is None, result
    (record,) = result.select(reason="privacy_unreadable")
    assert (record["action"], record["decision"], record["destination"]["host"]) == ("connect", "deny", OPENAI)
    assert len(internet.cloud[OPENAI].connections) == before


def test_a_call_of_bedrock_is_answered_by_the_local_model_in_its_own_form(machine: Machine, internet: Internet, local: LocalModel) -> None:
    bedrock = CLOUD[2]
    before, asks = len(internet.heard[bedrock]), f"Patient {PATIENT}, MRN: {MRN}"
    converse = json.dumps({"messages": [{"role": "user", "content": [{"text": asks}]}]})
    invoke = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": asks}]}
    model = f"https://{bedrock}/model/us.anthropic.claude-v1%3A0"
    calls = [post(f"{model}/converse", converse), post(f"{model}/converse-stream", converse), post(f"{model}/invoke", json.dumps(invoke))]
    answers, result = say(machine, calls, policy(local, hosts=(EU, bedrock)))
    assert [answer["status"] for answer in answers] == [200] * 3, result
    assert json.loads(answers[0]["body"])["output"]["message"]["content"] == [{"text": f"You said: {asks}"}]
    assert answers[1]["headers"]["content-type"] == "application/vnd.amazon.eventstream"
    assert all(each in answers[1]["body"] for each in ("messageStart", "contentBlockDelta", '"You sai"', "messageStop"))
    assert json.loads(answers[2]["body"])["content"] == [{"type": "text", "text": f"You said: {asks}"}]
    assert (len(internet.heard[bedrock]), len(local.heard)) == (before, 3)
    records = result.select(action="inference")
    assert [(each["effect"], each["detail"]["api"], each["detail"]["model"]) for each in records] == [
        ("local", api, "us.anthropic.claude-v1:0") for api in ("bedrock_converse", "bedrock_converse", "bedrock_invoke")
    ]
    assert not [each for each in records if "answer_unreadable" in each["detail"]]
