"""Who else speaks on a connection: what is decided for two, and what is when it can no longer be told."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from stockade.kernel.abi import Origin, Speaker, Verdict
from stockade.proxy.spine import Caller
from stockade.proxy.taint import Gone, Taint
from stockade.types import UNKNOWN_BINARY, Binary, Reason

ORIGIN = Origin(1, 7, 12, 4242, 9, 1, 443, Verdict.INSPECT, ipaddress.ip_address("198.18.0.9"), 99)
OPENER = Caller(Binary.named("curl"), ("/bin/bash",), "example.com", 443)
SH, DASH = Speaker(8, 4243, 13), Speaker(8, 4244, 14)


class Agent:
    """Names everybody it is asked about after the identity."""

    def __init__(self) -> None:
        self.asked: list[Origin] = []

    async def identify(self, origin: Origin) -> Caller:
        self.asked.append(origin)
        return Caller(Binary.named(f"binary-{origin.identity}"), (), OPENER.host, OPENER.port)


class Kernel:
    """Gives these answers in turn, the last of them for ever."""

    def __init__(self, *answers: Speaker | OSError | None) -> None:
        self.answers = list(answers)

    def __call__(self, _client: socket.socket) -> Speaker | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


def look(taint: Taint, agent: Any) -> Caller | None:
    return asyncio.run(taint.look(ORIGIN, OPENER, agent))


def taint_of(*answers: Speaker | OSError | None) -> tuple[Taint, Agent]:
    return Taint(socket.socket(), Kernel(*answers)), Agent()


def test_nobody_else() -> None:
    taint, agent = taint_of(None)
    assert look(taint, agent) is None and taint.stirred() is None and agent.asked == []


def test_the_other_is_asked_for_once_and_dialled_the_same() -> None:
    taint, agent = taint_of(SH)
    assert taint.stirred() is Reason.SOCKET_TAINTED
    caller = look(taint, agent)
    assert caller is not None and caller.binary.name == "binary-8" and (caller.host, caller.port) == ("example.com", 443)
    assert taint.stirred() is None and look(taint, agent) is caller and taint.pid == SH.pid
    (asked,) = agent.asked
    assert (asked.identity, asked.exec_id, asked.pid, asked.sandbox, asked.name) == (8, 13, 4243, 1, 9)


def test_several_are_nobody_and_the_agent_is_not_asked() -> None:
    taint, agent = taint_of(Speaker(0, 0, 0))
    caller = look(taint, agent)
    assert caller is not None and caller.binary is UNKNOWN_BINARY and caller.ancestry == () and agent.asked == []


def test_another_one_that_spoke_while_the_agent_was_asked_is_looked_at_too() -> None:
    taint, agent = taint_of(SH, DASH)
    look(taint, agent)
    assert [asked.exec_id for asked in agent.asked] == [SH.exec_id, DASH.exec_id]


@pytest.mark.parametrize("known", [None, SH])
def test_a_client_that_is_gone_is_nobody_that_was_decided_for(known: Speaker | None) -> None:
    """Also when one other was known: a second may have spoken after it."""
    taint, agent = taint_of(known, known, OSError("gone"))
    look(taint, agent)
    if known is None:
        assert taint.stirred() is None  # the second answer
    assert taint.stirred() is Reason.INTERRUPTED
    with pytest.raises(Gone):
        look(taint, agent)
    assert asyncio.run(taint.recall(ORIGIN, OPENER, agent)) == (None if known is None else taint.caller)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ((0, 0, 0, 0, 0), None),
        ((8, 4243, 13, 1, 1), SH),
        ((8, 4243, 13, 1, 0), Speaker(0, 0, 0)),  # claimed, and not yet written
        ((8, 4243, 13, 2, 1), Speaker(0, 0, 0)),
        ((0, 0, 0, 2, 0), Speaker(0, 0, 0)),
    ],
)
def test_what_the_kernel_says_is_one_other_or_nobody(raw: tuple[int, ...], expected: Speaker | None) -> None:
    assert Speaker.decode(Speaker.LAYOUT.pack(*raw)) == expected
    with pytest.raises(ValueError, match="24 bytes"):
        Speaker.decode(b"")
