"""The two workflows that the privacy router is for, live, from the policies that ship: a hospital's and a European bank's. What is
sensitive is found by the model and the detectors of the product; what each end was told is in its own log.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.internet import CLOUD, EU, Internet
from framework.machine import Machine, Result
from framework.models import Heard, LocalModel
from stockade.resources import POLICIES

INSIDE = Path(__file__).parent / "inside"
PYTHON = "/usr/bin/python3"
OPENAI = CLOUD[0]

pytestmark = [
    pytest.mark.client(PYTHON),
    pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="the model of the classifier runs on onnxruntime"),
]


@pytest.fixture
def local() -> Iterator[LocalModel]:
    model = LocalModel()
    yield model
    model.close()


def example(name: str, **more: Any) -> str:
    return yaml.safe_dump({"version": 1, "name": "agent", "extends": [str(POLICIES / "examples" / name)], **more})


def chat(text: str, host: str = OPENAI) -> dict[str, Any]:
    body = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": text}]})
    headers = {"Content-Type": "application/json", "Authorization": "Bearer cloud-credential-1"}
    return {"url": f"https://{host}/v1/chat/completions", "body": body, "headers": headers}


def say(machine: Machine, requests: list[dict[str, Any]], policy: str) -> tuple[list[dict[str, Any]], Result]:
    """What each is answered, by one agent."""
    files = {"says.py": (INSIDE / "says.py").read_text(), "requests.json": json.dumps(requests)}
    result = machine.run([PYTHON, "says.py", "requests.json"], policy=policy, files=files)
    assert result.status == 0, result
    return [json.loads(line) for line in result.stdout.splitlines()], result


def octets(heard: list[Heard]) -> bytes:
    return b"".join(each.path.encode() + repr(each.headers).encode() + each.body for each in heard)


def said(answer: dict[str, Any]) -> str:
    return str(json.loads(answer["body"])["choices"][0]["message"]["content"])


def test_a_clinical_agent_tells_the_cloud_of_no_patient(machine: Machine, internet: Internet, local: LocalModel) -> None:
    """The rows of the seed's table, as five requests of one agent."""
    before = len(internet.heard[OPENAI])
    identifiers = "Patient: Margaret Holloway, DOB 03/14/1961, MRN 84739201. Draft a discharge letter for her."
    clinical = "The patient has ICD-10 E11.9 and I10; HbA1c 9.1 %, serum creatinine 2.4 mg/dL. What follows from that?"
    schedule = "Put this schedule into a table: Dr. Anita Raman, cardiology, rounds on Monday and clinic on Thursday."
    rows = [identifiers, clinical, "Summarize in SOAP format.", "Describe the usual department structure of a hospital.", schedule]
    policy = example("clinical.yaml", privacy={"local": {"url": f"http://localhost:{local.port}", "api": "ollama", "model": "nemotron"}})
    answers, result = say(machine, [chat(row) for row in rows], policy)
    records = result.select(action="inference")
    assert [answer["status"] for answer in answers] == [200] * 5, result
    assert [record["effect"] for record in records] == ["local", "local", "pass", "pass", "redact"], result
    cloud, home = octets(internet.heard[OPENAI][before:]), octets(local.heard)
    for secret in ("Margaret", "Holloway", "03/14/1961", "84739201", "E11.9", "I10", "9.1 %", "creatinine", "2.4", "Raman"):
        assert secret.encode() not in cloud, secret
    for secret in ("Margaret Holloway", "03/14/1961", "84739201", "E11.9", "2.4 mg/dL"):
        assert secret.encode() in home, secret
    assert b"SOAP" in cloud and b"department structure" in cloud
    assert b"SOAP" not in home and b"Raman" not in home and b"cloud-credential-1" not in home
    assert said(answers[4]) == f"You said: {schedule}"  # the name is back in its place
    assert said(answers[0]) == f"You said: {identifiers}"
    assert [record["rule"] for record in records] == ["patients", "patients", "models", "models", "staff"]
    assert [record["detail"]["residency"] for record in records] == ["on-premises", "on-premises", "US", "US", "US"]
    assert any(each.startswith("pii.staff=") for each in records[4]["detail"]["redacted"])
    assert {len(record["detail"]["classifier_sha256"]) for record in records} == {64}
    trail = result.audit.read_text()
    assert not [secret for secret in ("Holloway", "84739201", "Raman") if secret in trail]


def test_a_bank_in_the_eu_processes_its_customers_data_there(machine: Machine, internet: Internet) -> None:
    """A transaction that the agent sends to the endpoint in the EU, a template by the cloud, and a transaction meant for the cloud."""
    before = {host: len(internet.heard[host]) for host in (EU, OPENAI)}
    transaction = "Book 250 EUR from Klara Lindqvist, IBAN DE89 3704 0044 0532 0130 00, to her savings account and confirm."
    template = "Write a polite template for a payment reminder, with placeholders for name and amount."
    requests = [chat(transaction, EU), chat(template), chat(transaction)]
    answers, result = say(machine, requests, example("eu-finance.yaml"))
    records = result.select(action="inference")
    assert [answer["status"] for answer in answers] == [200] * 3, result
    assert [record["effect"] for record in records] == ["pass", "pass", "local"], result
    assert [record["detail"]["residency"] for record in records] == ["EU", "US", "EU"]
    cloud, europe = octets(internet.heard[OPENAI][before[OPENAI] :]), octets(internet.heard[EU][before[EU] :])
    for secret in ("Klara", "Lindqvist", "DE89", "0532", "250 EUR"):
        assert secret.encode() not in cloud, secret
        assert europe.count(secret.encode()) == 2, secret
    assert b"payment reminder" in cloud and b"payment reminder" not in europe
    assert europe.count(b"cloud-credential-1") == 1  # of the call that the agent itself sent there
    assert records[2]["destination"]["host"] == OPENAI
    trail = result.audit.read_text()
    assert not [secret for secret in ("Lindqvist", "0044 0532") if secret in trail]  # four digits alone may be a part of a hash
