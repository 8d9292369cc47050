"""What a policy that is tried would refuse of what is allowed today, record by record; and how many Events a pod gets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stockade.audit.record import describe
from stockade.kubernetes.events import BURST, Announcer
from stockade.kubernetes.resources import Seen
from stockade.kubernetes.trial import Trial
from stockade.node.pod import Pod
from stockade.policy.load import load
from stockade.policy.model import Policy
from stockade.types import Action, Binary, Destination, Effect, Http, Level, Outcome, Reason, Record, Sandbox

POLICY = """\
version: 1
network:
  - name: read
    binary: {allow: [curl]}
    destination: {allow: [api.example.com], deny: [api.example.com:8443]}
    port: [443, 8443]
    method: {allow: [GET]}
    path: {allow: [/v1/**], deny: [/v1/secret]}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    file = tmp_path / "p.yaml"
    file.write_text(POLICY)
    return load([file])


def record(
    host: str = "api.example.com", port: int = 443, *, outcome: str = "allow", reason: Reason = Reason.RULE_ALLOW, **more: Any
) -> dict[str, Any]:
    """As it stands in the trail."""
    binary, http = more.pop("binary", "curl"), more.pop("http", None)
    found = Record(
        Action.HTTP if http else Action.CONNECT,
        Outcome(outcome),
        Effect.PASS,
        Level.DESTINATION,
        reason,
        binary=Binary.named(binary, f"/usr/bin/{binary}"),
        destination=Destination(host, port),
        http=Http(*http) if http else None,
        **more,
    )
    return describe(Sandbox("s", "s", "p", 1), found)


def test_what_is_allowed_today_and_would_not_be_is_unexpected_once(policy: Policy) -> None:
    trial = Trial()
    assert not trial.allowed(record(), policy) and not trial.allowed(record(http=("GET", "/v1/x")), policy)
    assert trial.allowed(record("other.example.com"), policy)
    assert not trial.allowed(record("other.example.com"), policy)
    assert trial.allowed(record(http=("POST", "/v1/x")), policy)
    assert trial.allowed(record(binary="wget"), policy)
    assert trial.found == (
        "connect of curl to other.example.com:443: no_rule",
        "http of curl to api.example.com:443 POST /v1/x: no_rule",
        "connect of wget to api.example.com:443: no_rule",
    )


def test_what_a_deny_list_names_was_meant(policy: Policy) -> None:
    trial = Trial()
    assert not trial.allowed(record(port=8443), policy) and not trial.allowed(record(http=("GET", "/v1/secret")), policy)
    assert not trial.would_be_refused(record(outcome="deny", reason=Reason.RULE_DENY, enforced=False))
    assert trial.found == ()


def test_of_a_pod_that_observes_what_would_be_refused_counts_and_what_was_refused_does_not(policy: Policy) -> None:
    trial = Trial()
    assert not trial.would_be_refused(record(outcome="deny", reason=Reason.ADDRESS_REFUSED))  # always denied, observed or not
    assert not trial.would_be_refused(record())
    assert trial.would_be_refused(record("evil.example", outcome="deny", reason=Reason.NO_RULE, enforced=False))
    assert not trial.allowed(record("evil.example", outcome="deny", reason=Reason.NO_RULE), policy)  # refused today as well
    assert trial.found == ("connect of curl to evil.example:443: no_rule",)


def test_a_pod_gets_some_events_and_each_kind_once() -> None:
    async def said() -> list[str]:
        announcer = Announcer(None, "node1")  # type: ignore[arg-type]  # nothing is sent: only what waits is looked at
        pods = [Seen(Pod(uid, "team", "box"), uid) for uid in ("1", "2")]
        for number in range(3 * BURST):
            for _ in range(2):
                announcer.refused(pods[0], record(f"h{number}.example", outcome="deny", reason=Reason.NO_RULE))
        announcer.refused(pods[1], record("h0.example", outcome="deny", reason=Reason.NO_RULE, enforced=False))
        waiting = [announcer._queue.get_nowait() for _ in range(announcer._queue.qsize())]
        assert len({event.name for event in waiting}) == len(waiting)
        return [f"{event.pod.uid} {event.reason} {event.message}" for event in waiting]

    found = asyncio.run(said())
    assert found == [
        *(f"1 Refused connect of curl to h{number}.example:443: no_rule" for number in range(BURST)),
        "2 WouldBeRefused connect of curl to h0.example:443: no_rule",
    ]
