"""What `on_found: redact` can take out of a request, and where it says that it cannot."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from framework.classifier import InProcess
from stockade.policy import Policy
from stockade.policy.model import Destination, Names, Rule
from stockade.policy.privacy import Custom, Privacy
from stockade.privacy.finding import Finding
from stockade.privacy.patterns import Credentials, Patterns
from stockade.privacy.redact import masked
from stockade.proxy.ladder import Head
from stockade.proxy.router import Router, after, both
from stockade.proxy.scan import Fixed, _same_form, without
from stockade.proxy.screen import Budget, Screening, Verdict
from stockade.proxy.spine import Caller
from stockade.types import Action, Binary, Decision, Effect, Level, Outcome, Reason, Request


@pytest.mark.parametrize(
    ("target", "values", "made"),
    [
        ("/a?q=secret&b=2", ["secret"], "/a?q=********&b=2"),
        ("/a?q=x%20secret", ["secret"], "/a?q=********"),
        ("/a?q=s%2Be", ["s+e"], "/a?q=********"),
        ("/a?q=s+e", ["s e"], "/a?q=********"),
        ("/a?secret=1&b=2", ["secret"], "/a?********&b=2"),
        ("/a?secret&b=2", ["secret"], "/a?********&b=2"),
        ("/a?a=secret&b=secret", ["secret"], "/a?a=********&b=********"),
    ],
)
def test_a_parameter_is_masked_whole(target: str, values: list[str], made: str) -> None:
    assert without(target, values) == made


@pytest.mark.parametrize(
    ("target", "values"),
    [("/secret?a=1", ["secret"]), ("/se%63ret", ["secret"]), ("/a?q=sec&r=ret", ["sec&r=ret"]), ("/secret?q=secret", ["secret"])],
)
def test_a_path_is_not_changed(target: str, values: list[str]) -> None:
    with pytest.raises(Fixed):
        without(target, values)


def test_json_stays_json_or_is_refused() -> None:
    text = '{"card": 4111111111111111, "key": "x4111111111111111"}'
    quoted = [Finding(text.index("x"), text.rindex('"'), "financial.card", "pattern:card", 1.0)]
    assert _same_form(text, masked(text, quoted)) == '{"card": 4111111111111111, "key": "********"}'
    with pytest.raises(Fixed):
        _same_form(text, masked(text, [Finding(9, 25, "financial.card", "pattern:card", 1.0)]))
    assert _same_form("no JSON {", "********") == "********"


def test_what_a_scan_took_out_stays_out_of_a_call_whatever_becomes_of_it() -> None:
    found = Verdict(Effect.REDACT, Reason.SCAN_FOUND, Action.HTTP, body=b"scanned", detail={"redacted": ["a=1"]}, unsaid=("a",))
    head, body = after(found, Head("POST", "/", None, (("content-encoding", "gzip"), ("a", "b"))), b"packed")
    assert (head.headers, body) == ((("a", "b"),), b"scanned")
    passed = both(found, Verdict(Effect.PASS, Reason.PRIVACY_PASS, Action.INFERENCE))
    assert passed is not None
    assert (passed.effect, passed.body, passed.action, passed.detail["scan_redacted"]) == (
        Effect.REDACT,
        b"scanned",
        Action.INFERENCE,
        ["a=1"],
    )
    assert both(None, None) is None
    assert both(found, None) is found
    later = both(found, Verdict(Effect.LOCAL, Reason.PRIVACY_ROUTE, Action.INFERENCE, body=b"x", otherwise=lambda _failure: passed))
    assert later is not None
    assert later.otherwise is not None
    failed = Verdict(Effect.REDACT, Reason.PRIVACY_LOCAL_FAILURE, Action.INFERENCE)
    again = both(found, Verdict(Effect.LOCAL, Reason.PRIVACY_ROUTE, Action.INFERENCE, otherwise=lambda _failure: failed))
    assert again is not None
    assert again.otherwise is not None
    assert again.otherwise(None).body == b"scanned"  # type: ignore[arg-type]


KEY = "AKIA" + "Q3EGRTSY5ZPWN7VU"
CARD = "4111 1111 1111 1111"


class Socket:
    """A WebSocket that rules of these names let pass."""

    def __init__(self, rules: dict[str, dict[str, Any]], **more: Any) -> None:
        made = tuple(Rule(name, Names(()), Destination(()), **more) for name, more in rules.items())
        policy = Policy(name="sockets", rules=made, privacy=Privacy(**more))
        self._router = Router(InProcess(Patterns(), Credentials()), None, SimpleNamespace(classify_seconds=5.0))  # type: ignore[arg-type]
        self._connection: Any = SimpleNamespace(served=SimpleNamespace(policy=policy, sandbox=1))
        self._exchange: Any = Opened(frozenset(rules))

    def say(self, content: bytes) -> Verdict | None:
        return asyncio.run(self._router.message(self._connection, self._exchange, content))


class Opened:
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def rules(self) -> frozenset[str]:
        return self._names


SECRETS = {"keys": {"scan": ("credential.*",)}}


@pytest.mark.parametrize("size", [1, 2, 7, 13])
def test_a_value_is_found_in_however_many_messages_it_is_said(size: int) -> None:
    socket, said = Socket(SECRETS), f"the key is {KEY}".encode()
    verdicts = [socket.say(said[at : at + size]) for at in range(0, len(said), size)]
    assert verdicts[-1] is not None
    assert (verdicts[-1].effect, verdicts[-1].reason) == (Effect.REFUSE, Reason.SCAN_FOUND)
    assert verdicts[:3] == [None] * 3 or size == 13


def test_a_letter_may_be_cut_by_two_messages() -> None:
    socket = Socket(SECRETS, custom=(Custom("name", "Zoë Müllé", "credential.key"),))
    octets = [bytes([octet]) for octet in "ask Zoë Müllé".encode()]
    *before, last = [socket.say(octet) for octet in octets]
    assert before == [None] * len(before)
    assert last is not None and last.effect is Effect.REFUSE
    assert Socket(SECRETS).say(b"ab\xff") is not None  # no letter at all
    passing = Socket(SECRETS, unreadable="pass")
    assert passing.say(b"ab\xc3") is None
    refused = passing.say(f"{KEY} ".encode())  # which does not go on with that letter, and is read for itself
    assert refused is not None and refused.reason is Reason.SCAN_FOUND


def test_what_is_masked_of_a_letter_that_has_begun_is_all_of_it_or_the_message_is_refused() -> None:
    def said(*messages: bytes) -> Verdict | None:
        mask = {"scan": ("credential.*",), "on_found": "redact"}
        socket = Socket({"names": mask}, custom=(Custom("name", "[éë]mil", "credential.key"),))
        return [socket.say(each) for each in messages][-1]

    made = said(b"x \xc3", b"\xab: \xc3\xabmil \xc3")
    assert made is not None and made.body == b"\xab: ******** \xc3"
    refused = said(b"x \xc3", b"\xabmil now")
    assert refused is not None and refused.effect is Effect.REFUSE


def test_every_rule_by_which_a_socket_is_open_has_its_messages_read() -> None:
    rules = {
        "cards": {"scan": ("financial.card",), "on_found": "redact"},
        "keys": {"scan": ("credential.*",), "on_found": "redact"},
        "none": {"on_found": "deny"},
    }
    both_kinds = Socket(rules).say(f"{CARD} and {KEY}".encode())
    assert both_kinds is not None and both_kinds.body == b"******** and ********"
    denied = Socket(rules | {"strict": {"scan": ("pii.contact",)}}).say(KEY.encode())
    assert denied is not None and denied.effect is Effect.REFUSE


class Opening:
    """A POST by curl, and the program that speaks on its connection beside it, if any."""

    def __init__(self, decides: Any, path: str, other: str | None = None, *, host: str = "api.example.com") -> None:
        self.other, self._head = other, Head("POST", path, None, (("host", host),))
        self._caller = Caller(Binary.named("curl"), (), host, 443)
        self._router = Router(InProcess(Patterns(), Credentials()), None, SimpleNamespace(classify_seconds=5.0))  # type: ignore[arg-type]
        served = SimpleNamespace(policy=None, sandbox=1)
        self._connection: Any = SimpleNamespace(served=served, caller=self._caller, decider=decides, other=self._second)

    async def _second(self) -> Caller | None:
        return None if self.other is None else replace(self._caller, binary=Binary.named(self.other))

    def screening(self, policy: Policy) -> Screening | None:
        self._connection.served.policy = policy
        return asyncio.run(self._router.screening(self._connection, self._head, Budget(1 << 20, 1 << 20)))

    def verdict(self, screening: Screening, policy: Policy, body: bytes = KEY.encode()) -> Verdict | None:
        self._connection.served.policy = policy
        return asyncio.run(self._router.verdict(self._connection, screening, policy, body))


def policy_of(**rules: tuple[str, ...]) -> Policy:
    """Names of rules and what they scan for."""
    return Policy(name="x", rules=tuple(Rule(name, Names(()), Destination(()), scan=scan) for name, scan in rules.items()))


def decides(request: Request, _policy: object) -> Decision:
    read = request.binary.name == "python3" or (request.path or "").startswith("/a/b")
    return Decision(Outcome.ALLOW, Effect.PASS, Level.PATH, Reason.RULE_ALLOW, "second" if read else "first", 1)


def test_the_scan_of_a_rule_for_the_other_speaker_or_another_reading_of_the_path_reads_a_request() -> None:
    policy = policy_of(first=(), second=("credential.*",))
    assert Opening(decides, "/x").screening(policy) is None
    assert Opening(decides, "/x", "curl").screening(policy) is None
    for opening in (Opening(decides, "/x", "python3"), Opening(decides, "/a%2Fb")):
        screening = opening.screening(policy)
        assert screening is not None and screening.admitted.rules == {"first", "second"}
        verdict = opening.verdict(screening, policy)
        assert verdict is not None and (verdict.effect, verdict.reason) == (Effect.REFUSE, Reason.SCAN_FOUND)


def test_who_speaks_while_the_body_comes_and_a_policy_that_came_meanwhile_have_their_scan_too() -> None:
    before, now = policy_of(first=("financial.card",), second=("credential.*",)), policy_of(third=("credential.*",))
    opening = Opening(decides, "/x")
    screening = opening.screening(before)
    assert screening is not None
    assert opening.verdict(screening, before) is None
    opening.other = "python3"
    verdict = opening.verdict(screening, before)
    assert verdict is not None and verdict.reason is Reason.SCAN_FOUND
    renamed = Opening(lambda *_: replace(decides(*_), rule="third"), "/x")
    verdict = renamed.verdict(screening, now)
    assert verdict is not None and verdict.reason is Reason.SCAN_FOUND


@pytest.mark.parametrize("host", ["chatgpt.com", "cloudcode-pa.googleapis.com", "aiplatform.eu.rep.googleapis.com"])
def test_what_command_lines_say_to_their_models_is_not_relayed_unread(host: str) -> None:
    router = Router(InProcess(Patterns(), Credentials()), None, SimpleNamespace(classify_seconds=5.0))  # type: ignore[arg-type]
    caller = Caller(Binary.named("codex"), (), host, 443)

    def withheld(**more: Any) -> bool:
        policy = Policy(name="x", rules=(), privacy=Privacy(**more))
        return router.withheld(SimpleNamespace(served=SimpleNamespace(policy=policy), caller=caller))  # type: ignore[arg-type]

    assert withheld() and not withheld(unreadable="pass")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"model": "m", "messages": [{"role": "user", "content": "KEY"}]}', Reason.PRIVACY_DEFAULT),
        (b'{"model": "m", "messages": [{"role": "user", "content": "a", "images": ["AAAA"]}]}', Reason.PRIVACY_UNREADABLE),
        (b'{"room": "lobby", "text": "KEY", "image": "data:image/png;base64,AAAA"}', None),
        (b"room=lobby", None),
    ],
)
def test_a_path_that_others_have_too_is_a_call_only_where_its_body_may_be_one(body: bytes, reason: Reason | None) -> None:
    allowed = Decision(Outcome.ALLOW, Effect.PASS, Level.PATH, Reason.RULE_ALLOW, "app", 1)
    opening = Opening(lambda *_: allowed, "/api/chat", host="chat.example.org")
    policy = replace(policy_of(app=()), privacy=Privacy())
    screening = opening.screening(policy)
    assert screening is not None
    verdict = opening.verdict(screening, policy, body.replace(b"KEY", KEY.encode()))
    assert (None if verdict is None else verdict.reason) is reason
