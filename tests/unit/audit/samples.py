"""Records that audit tests write."""

from __future__ import annotations

from stockade.types import Action, Binary, Destination, Effect, Http, Level, Outcome, Reason, Record, Sandbox

BOX = Sandbox("0d1f", "box-7f", "coding-agent", 12, {"agent": "claude-code"})
_POD = {"namespace": "team-a", "pod": "agent-0", "pod_uid": "0b5a1c7e-4a52-4c0f-9d5e-6f2f0b1e8c11", "node": "node1"}
POD = Sandbox("7c1f", "agent-0-0b5a1c7e-4a5", "coding-agent", 12, _POD | {"service_account": "runner"})
CURL = Binary("curl", frozenset({"curl"}), "/usr/bin/curl", sha256="ab" * 32)


def connect(host: str = "pastebin.com") -> Record:
    return Record(
        Action.CONNECT,
        Outcome.DENY,
        Effect.REFUSE,
        Level.DESTINATION,
        Reason.NO_RULE,
        binary=CURL,
        exec_id=3,
        pid=4242,
        ancestry=("/usr/bin/bash",),
        destination=Destination(host, 443),
    )


def request(path: str = "/simple/six/") -> Record:
    return Record(
        Action.HTTP,
        Outcome.ALLOW,
        Effect.PASS,
        Level.PATH,
        Reason.RULE_ALLOW,
        rule="pypi",
        binary=CURL,
        exec_id=3,
        pid=77,
        destination=Destination("index.example", 443, "151.101.0.223"),
        http=Http("GET", path),
    )
