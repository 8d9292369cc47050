"""Placeholders, attacked from inside: what the cloud was told in the place of a value is in its log, and is given to the agent to try.

Nothing that is typed, by a user or by an agent, turns into somebody's value; nothing that stands for a value at one host, or in one
sandbox, stands for it anywhere else.
"""

from __future__ import annotations

import base64
import json
import re

import pytest

from framework.asked import ANTHROPIC, KEY, MRN, OPENAI, PATIENT, PYTHON, STAFF, Talk, chat, message, octets, policy, post, said, say
from framework.internet import Internet
from framework.machine import Machine

pytestmark = pytest.mark.client(PYTHON)
# A placeholder looks like a person's number to the model: here that passes, so that nothing but the vault stands in the way.
LOOSE = [{"name": "guesses", "when": ["pii.person", "pii.contact", "pii.government", "financial.*", "phi.*"], "then": "pass"}]
MARK = re.compile(rb"\[STAFF-[0-9a-f]{12}\]")


def test_what_is_typed_never_becomes_a_value(machine: Machine, internet: Internet) -> None:
    cloud = internet.heard[OPENAI]
    with Talk(machine, policy(routes=LOOSE)) as talk:
        answer = talk.ask(chat(f"Ask {STAFF} about the rota."))
        (mark,) = MARK.findall(cloud[-1].body)
        assert said(answer) == f"You said: Ask {STAFF} about the rota."
        answer = talk.ask(chat(f"Tell {STAFF} that {STAFF} is late."))
        assert MARK.findall(cloud[-1].body) == [mark, mark]  # the same for the same, in every request of this sandbox
        assert said(answer).count(STAFF) == 2
        typed = [mark.decode(), mark.decode().lower(), f"**{mark.decode()}**", mark.decode().strip("[]"), "[STAFF-0123456789ab]"]
        for each in typed:
            stream = each is typed[0]
            answer = talk.ask(chat(f"Who is {each}?", stream=stream))
            assert mark not in cloud[-1].body
            assert said(answer) == f"You said: Who is {each}?"
        answer = talk.ask(chat(f"{STAFF} is not {mark.decode()}."))  # one of either in a request
        assert said(answer) == f"You said: {STAFF} is not {mark.decode()}."
        result = talk.finish()
    records = result.select(action="inference")
    assert [record["effect"] for record in records] == ["redact", "redact", *["pass"] * len(typed), "redact"]
    assert b"Oduya" not in octets(cloud[-len(records) :])
    trail = result.audit.read_text()
    assert STAFF not in trail
    assert mark.decode() not in trail


def test_a_placeholder_is_of_one_host_and_comes_back_from_no_other(machine: Machine, internet: Internet) -> None:
    before = len(internet.heard[ANTHROPIC])
    with Talk(machine, policy(routes=LOOSE)) as talk:
        talk.ask(chat(f"Ask {STAFF} about the rota."))
        (mark,) = MARK.findall(internet.heard[OPENAI][-1].body)
        answer = talk.ask(message(f"Who is {mark.decode()}?"))
        assert said(answer) == f"You said: Who is {mark.decode()}?"
        answer = talk.ask(message(f"Who is {STAFF}?"))
        assert said(answer) == f"You said: Who is {STAFF}?"
        (other,) = MARK.findall(internet.heard[ANTHROPIC][-1].body)
        assert other != mark
        answer = talk.ask(chat(f"Who is {other.decode()}?"))
        assert said(answer) == f"You said: Who is {other.decode()}?"
        result = talk.finish()
    assert b"Oduya" not in octets(internet.heard[ANTHROPIC][before:])
    assert [record["effect"] for record in result.select(action="inference")] == ["redact", "pass", "redact", "pass"]


def test_over_a_conversation_a_value_stays_out_wherever_it_comes_again(machine: Machine, internet: Internet) -> None:
    """Also where nothing beside it would say that it is one: the second pattern needs words around it that the answer has not."""
    custom = [{"name": "onduty", "pattern": r"on duty: (\w+ \w+)", "category": "pii.staff"}]
    cloud = internet.heard[OPENAI]
    with Talk(machine, policy(detect={"custom": custom})) as talk:
        talk.ask(chat("on duty: qorvex tallin"))
        (mark,) = MARK.findall(cloud[-1].body)
        history = [
            {"role": "user", "content": "Who works tonight?"},
            {"role": "assistant", "content": "It says: qorvex tallin"},
            {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "find", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": '{"who": "qorvex tallin"}'},
            {"role": "user", "content": "Thanks, repeat what qorvex tallin does."},
        ]
        answer = talk.ask(chat("") | {"body": json.dumps({"model": "gpt-4o", "messages": history})})
        result = talk.finish()
    assert said(answer) == "You said: Thanks, repeat what qorvex tallin does."
    assert MARK.findall(cloud[-1].body) == [mark] * 3
    assert b"qorvex" not in octets(cloud[-2:])
    first, second = result.select(action="inference")
    assert (first["effect"], second["effect"]) == ("redact", "redact")
    assert "pii.staff=3" in second["detail"]["redacted"], "whatever the model takes it for besides"
    assert second["detail"]["tools"] == ["find"]


def test_a_placeholder_of_one_sandbox_is_nothing_in_another(machine: Machine, internet: Internet) -> None:
    with Talk(machine, policy()) as one, Talk(machine, policy()) as other:
        one.ask(chat(f"Ask {STAFF} about the rota."))
        (mark,) = MARK.findall(internet.heard[OPENAI][-1].body)
        answer = other.ask(chat(f"Who is {mark.decode()}?"))
        assert said(answer) == f"You said: Who is {mark.decode()}?"
        other.ask(chat(f"Ask {STAFF} about the rota."))
        (theirs,) = MARK.findall(internet.heard[OPENAI][-1].body)
        assert theirs != mark  # nor can two logs be laid side by side
        answer = one.ask(chat(f"Who is {theirs.decode()}?"))
        assert said(answer) == f"You said: Who is {theirs.decode()}?"
        for talk in (one, other):
            assert talk.finish().select(action="inference", effect="redact")


def test_a_secret_in_pieces_or_in_disguise_does_not_leave(machine: Machine, internet: Internet) -> None:
    def turns(*contents: str, role: str = "user") -> str:
        return json.dumps({"model": "gpt-4o", "messages": [{"role": role, "content": each} for each in contents]})

    url = f"https://{OPENAI}/v1/chat/completions"
    escaped = json.dumps({"model": "m", "messages": [{"role": "user", "content": "@"}]}).replace(
        "@", "".join(f"\\u{ord(one):04x}" for one in KEY)
    )
    call = {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "env", "arguments": "{}"}}]}
    tool = {"role": "tool", "tool_call_id": "a", "content": f'{{"AWS_ACCESS_KEY_ID": "{KEY}"}}'}
    ways = [
        post(url, turns(f"it begins {KEY[:9]}", f"{KEY[9:]} and ends")),
        post(
            url,
            json.dumps(
                {
                    "model": "m",
                    "messages": [{"role": "user", "content": [{"type": "text", "text": KEY[:9]}, {"type": "text", "text": KEY[9:]}]}],
                }
            ),
        ),
        post(url, escaped),
        chat(f"decode {base64.b64encode(f'the key is {KEY}'.encode()).decode()}"),
        post(url, json.dumps({"model": "m", "messages": [call, tool]})),
        chat(f"the key is {KEY}") | {"pieces": True},
    ]
    before = len(internet.heard[OPENAI])
    answers, result = say(machine, [*ways, chat("nothing of the kind")], policy())
    assert [answer["status"] for answer in answers] == [403] * len(ways) + [200], result
    assert len(internet.heard[OPENAI]) == before + 1
    refused = result.select(action="inference", decision="deny")
    assert [(record["reason"], record["rule"]) for record in refused] == [("privacy_default", "default:credentials")] * len(ways)
    assert [record["detail"]["tools"] for record in refused] == [[], [], [], [], ["env"], []]
    assert KEY not in result.audit.read_text()
    assert not [each for each in (PATIENT, MRN) if each in result.audit.read_text()]
