"""What leaves in the head of a call to a model: a header, a query, a path, and the name of a header."""

from __future__ import annotations

import pytest

from framework.asked import MRN, OPENAI, PATIENT, PYTHON, STAFF, chat, get, octets, policy, said, say
from framework.internet import Internet
from framework.machine import Machine
from framework.models import LocalModel

pytestmark = pytest.mark.client(PYTHON)
URL = f"https://{OPENAI}/v1"


def test_nothing_that_is_held_back_leaves_in_a_head(machine: Machine, internet: Internet) -> None:
    hello = "Write a template for a letter."
    held = [
        chat(hello, headers={"X-Subject": f"patient {PATIENT}"}),
        chat(hello, headers={"Accept": PATIENT}),
        chat(hello, headers={"X-Rosalind-Achterberg": "1"}),
        chat(hello, headers={"X-Request-Id": f"MRN: {MRN}"}),
        chat(hello, headers={"Authorization": f"Bearer {PATIENT}"}),
        chat(hello) | {"url": f"{URL}/chat/completions?beta=true&after=Rosalind-Achterberg"},
        chat(hello) | {"url": f"{URL}/engines/Rosalind%20Achterberg/completions"},
        get(f"{URL}/models", X_Note=PATIENT),
        get(f"{URL}/models?after=Rosalind-Achterberg"),
        chat(hello) | {"url": f"{URL}/chat/completions?note=anything"},
    ]
    passed = [
        chat(hello, headers={"User-Agent": "OpenAI/Python 1.109.1", "X-Request-Id": "6b1e2c9a-3a84-4a77-9e30-5b1f2f7f2b1d"}),
        get(f"{URL}/models"),
    ]
    before, paths = len(internet.heard[OPENAI]), len(internet.cloud[OPENAI].paths)
    answers, result = say(machine, [*held, *passed], policy())
    assert [answer["status"] for answer in answers[: len(held)]] == [403] * len(held), result
    assert [answer["status"] for answer in answers[len(held) :]] == [200, 200], result
    assert len(internet.heard[OPENAI]) == before + 1
    assert internet.cloud[OPENAI].paths[paths:] == ["/v1/models"]
    refused = result.select(action="inference", decision="deny")
    assert len(refused) == len(held)
    assert all("phi.identifier" in record["detail"]["head"][0] for record in refused[:-1])
    assert refused[-1]["reason"] == "privacy_unreadable"
    assert "Achterberg" not in result.audit.read_text()
    assert refused[6]["http"]["path"] == "/v1/engines/*/completions"


def test_a_header_is_redacted_and_stays_behind_when_the_local_model_is_asked(machine: Machine, internet: Internet) -> None:
    before, local = len(internet.heard[OPENAI]), LocalModel()
    requests = [
        chat(f"Greet {STAFF}.", headers={"X-On-Behalf-Of": STAFF, "X-Plain": "kept"}),
        chat("Write a letter.", headers={"X-Subject": f"patient {PATIENT}"}),
    ]
    answers, result = say(machine, requests, policy(local))
    local.close()
    assert [answer["status"] for answer in answers] == [200, 200], result
    (heard,) = internet.heard[OPENAI][before:]
    assert b"Oduya" not in octets([heard])
    assert heard.headers["x-plain"] == "kept"
    assert heard.headers["authorization"] == "Bearer cloud-credential-1"
    mark = heard.headers["x-on-behalf-of"]
    assert mark.startswith("[STAFF-")
    assert mark.encode() in heard.body
    assert said(answers[0]) == f"You said: Greet {STAFF}."
    assert len(local.heard) == 1
    assert b"Achterberg" not in octets(local.heard)
    redacted, led = result.select(action="inference")
    assert (redacted["effect"], redacted["detail"]["redacted"], redacted["detail"]["head"]) == (
        "redact",
        ["pii.staff=2"],
        ["pii.staff=1"],
    )
    assert (led["effect"], led["detail"]["head"]) == ("local", ["phi.identifier=1"])
