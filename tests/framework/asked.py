"""Calls of models as an agent in a sandbox makes them, the policy they are made under, and what came back.

Names that a test is about are found by `custom` patterns: what is tried is the way of a call, not how well a model guesses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from framework.internet import CLOUD, EU
from framework.machine import Machine, Result, wait_for
from framework.models import Heard, LocalModel
from framework.policy import http, whole

PYTHON = "/usr/bin/python3"
SAYS = Path(__file__).parents[1] / "e2e" / "inside" / "says.py"
OPENAI, ANTHROPIC = CLOUD[0], CLOUD[1]
PATIENT, MRN, STAFF = "Rosalind Achterberg", "84739201", "Dr. Maximilian Oduya"
KEY = "AKIA" + "Q3EGRTSY5ZPWN7VU"

Request = dict[str, Any]


def policy(local: LocalModel | None = None, *, hosts: Sequence[str] = (), methods: Sequence[str] = ("GET", "POST"), **privacy: Any) -> str:
    """python3 may ask the cloud's models, and `hosts`; `privacy` says what differs from the defaults."""
    custom = [
        {"name": "patients", "pattern": f"(?i){PATIENT.replace(' ', '.')}", "category": "phi.identifier"},
        {"name": "staff", "pattern": STAFF, "category": "pii.staff"},
    ]
    section: dict[str, Any] = {"endpoints": [EU], "detect": {"custom": custom}}
    if local is not None:
        section["local"] = {"url": f"http://localhost:{local.port}", "model": "on-premises"}
    rule = http("python3", OPENAI, ANTHROPIC, EU, *hosts, methods=methods, name="models")
    return whole(rule, allow=["python3"], privacy=section | privacy)


def chat(text: str, host: str = OPENAI, *, headers: dict[str, str] | None = None, **more: Any) -> Request:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]} | more
    return post(f"https://{host}/v1/chat/completions", json.dumps(body), headers)


def message(text: str, **more: Any) -> Request:
    body = {"model": "claude-sonnet-4", "max_tokens": 256, "messages": [{"role": "user", "content": text}]} | more
    return post(f"https://{ANTHROPIC}/v1/messages", json.dumps(body))


def post(url: str, body: str, headers: dict[str, str] | None = None) -> Request:
    own = {"Content-Type": "application/json", "Authorization": "Bearer cloud-credential-1"}
    return {"url": url, "body": body, "headers": own | (headers or {})}


def get(url: str, **headers: str) -> Request:
    return {"url": url, "method": "GET", "headers": {name.replace("_", "-"): value for name, value in headers.items()}}


def say(machine: Machine, requests: list[Request], text: str, **more: Any) -> tuple[list[dict[str, Any]], Result]:
    """Each request in its turn, from one process in a sandbox. more: for Machine.run."""
    files = {"says.py": SAYS.read_text(), "requests.json": json.dumps(requests)}
    result = machine.run([PYTHON, "says.py", "requests.json"], policy=text, files=files, **more)
    assert result.status == 0, result
    return [json.loads(line) for line in result.stdout.splitlines()], result


def said(answer: dict[str, Any]) -> str:
    """What the model said, of an answer of either API, streamed or not."""
    body = answer["body"]
    if not body.lstrip().startswith(("data:", "event:")):
        whole_answer = json.loads(body)
        return str(whole_answer["choices"][0]["message"]["content"] if "choices" in whole_answer else whole_answer["content"][0]["text"])
    events = [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:") and "[DONE]" not in line]
    deltas = [each["choices"][0]["delta"] if each.get("choices") else each.get("delta", {}) for each in events]
    return "".join(delta.get("content") or delta.get("text") or "" for delta in deltas)


def octets(heard: Sequence[Heard]) -> bytes:
    return b"".join(each.path.encode() + repr(each.headers).encode() + each.body for each in heard)


class Talk:
    """An agent in a sandbox that asks what it is told to, when it is told: what one request did is known before the next."""

    def __init__(self, machine: Machine, text: str, **more: Any) -> None:
        self._room = machine.room({"talks.py": (SAYS.parent / "talks.py").read_text()})
        self.running = machine.start([PYTHON, "talks.py"], policy=text, room=self._room, **more)
        self._asked = 0

    @property
    def work(self) -> Path:
        return self._room / "work"

    def begin(self, request: Request) -> None:
        """Without waiting for what comes back."""
        self._asked += 1
        (self.work / "part").write_text(json.dumps(request))
        (self.work / "part").rename(self.work / f"ask-{self._asked}.json")

    def answer(self) -> dict[str, Any]:
        path = self.work / f"answer-{self._asked}.json"
        wait_for(path.exists, f"answer {self._asked}", 60, self.running)
        return dict(json.loads(path.read_text()))

    def ask(self, request: Request) -> dict[str, Any]:
        self.begin(request)
        return self.answer()

    def finish(self) -> Result:
        (self.work / "done").touch()
        return self.running.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.running.__exit__(*error)
