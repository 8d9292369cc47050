"""Approvals as the worker sees them: the id in a refusal, the pages of stockade.internal, and the one request that was approved."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from stockade.policy import decide, load
from stockade.policy.own import HOST
from stockade.proxy import Settings, Worker
from stockade.types import Action, Effect, Outcome, Reason

from .conftest import WORKER_GID, WORKER_UID, FakePolicy, World, fake_decide, origin_of, refusal, serving

GET = "GET {path} HTTP/1.1\r\nHost: {{host}}\r\n\r\n"  # {host} stays for the world to fill in


def get(path: str) -> str:
    return GET.format(path=path)


def test_a_refusal_carries_the_id_of_its_approval_and_how_to_ask_for_it(proxied):
    async def scenario(world: World) -> None:
        world.spine.approvals = {"/denied": "k3x9"}
        number, seen = await world.echo("a.example")
        status, body = await world.ask(number, get("/denied"))
        told = refusal(body)
        assert status == 403 and told["approval"] == "k3x9"
        assert told["hint"].endswith("; a person may approve this one: poll http://stockade.internal/approvals/k3x9")
        assert "approval" not in refusal((await world.ask(number, get("/nobody-can")))[1])
        assert seen.heads == []

    proxied(scenario, policy=FakePolicy(allow=(("GET", "/x"),)))


def with_internal(scenario: Any, pki: Any, tmp_path: Any) -> None:
    """A worker under a real policy: stockade.internal is no rule's."""
    (tmp_path / "policy.yaml").write_text(
        '- {name: a, binary: {allow: [curl]}, destination: {allow: [a.example]}, method: {allow: [GET]}, path: {allow: ["/x"]}}\n'
    )
    policy = load([tmp_path / "policy.yaml"])
    worker = Worker.fork(
        uid=WORKER_UID, gid=WORKER_GID, settings=Settings(trust=pki.bundle, head_seconds=2), decide=decide, origin_of=origin_of
    )

    async def main() -> None:
        async with serving(worker, pki, policy, 0) as world:
            world.spine.approvals = {"/denied": "k3x9"}
            await scenario(world)

    asyncio.run(main())


def test_pages_are_answered_here_and_nobody_is_dialled(pki, tmp_path):
    async def scenario(world: World) -> None:
        number = world.name(HOST, 80)
        reader, writer = await world.dial(number, tls=False)
        answers = [await world.exchange(number, reader, writer, get(f"/approvals/{page}")) for page in ("k3x9", "other", "k3x9")]
        writer.close()
        assert [status for status, _ in answers] == [200, 404, 200]
        assert json.loads(answers[0][1]) == {"id": "k3x9", "state": "pending"}
        assert "no approval other" in json.loads(answers[1][1])["error"]
        await world.spine.settled()
        assert [(record.outcome, record.effect, record.http.status) for record in world.spine.of(Action.HTTP) if record.http] == [
            (Outcome.ALLOW, Effect.PASS, 200),
            (Outcome.ALLOW, Effect.PASS, 404),
            (Outcome.ALLOW, Effect.PASS, 200),
        ]
        assert world.spine.resolved == []

    with_internal(scenario, pki, tmp_path)


REFUSED = {
    "another method": "POST /approvals/k3x9 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi",
    "HEAD": "HEAD /approvals/k3x9 HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "another page": get("/approvals/k3x9/approve"),
    "a climbing path": "GET /approvals/../approvals/../x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "another host": "GET /approvals/k3x9 HTTP/1.1\r\nHost: a.example\r\n\r\n",
}


@pytest.mark.parametrize("what", REFUSED)
def test_anything_else_there_is_refused_and_recorded(pki, tmp_path, what: str):
    async def scenario(world: World) -> None:
        number = world.name(HOST, 80)
        if what == "HEAD":
            reader, writer = await world.dial(number, tls=False)
            writer.write(REFUSED[what].replace("{host}", HOST).encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 403")
            writer.close()
        else:
            assert (await world.ask(number, REFUSED[what], tls=False))[0] == 403
        (record,) = world.spine.of(Action.HTTP)
        assert record.outcome is Outcome.DENY and world.spine.resolved == []

    with_internal(scenario, pki, tmp_path)


def test_over_tls_it_is_the_same_page(pki, tmp_path):
    """The kernel lets nobody dial 443 there; and if it did, nobody would be dialled further on."""

    async def scenario(world: World) -> None:
        number = world.name(HOST, 443)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            status, _ = await world.ask(number, get("/approvals/k3x9"), tls=False)
            assert status == 403
        assert world.spine.resolved == [] and {record.outcome for record in world.spine.records} == {Outcome.DENY}

    with_internal(scenario, pki, tmp_path)


# the one request that was approved


def test_the_request_that_used_up_its_approval_outlives_its_rule(proxied):
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await go_on.wait()
        writer.write(b"67890")

    async def scenario(world: World) -> None:
        world.spine.once = True
        port = await world.server(slow, world.pki.context("a.example", ("http/1.1",)))
        number = world.name("a.example", port)
        reader, writer = await world.dial(number)
        writer.write(get("/once").replace("{host}", f"a.example:{port}").encode())
        await reader.readuntil(b"12345")
        world.spine.once = False
        await world.reload(FakePolicy(hosts=frozenset(), generation=2))  # not even its host is allowed any more
        go_on.set()
        assert await reader.readexactly(5) == b"67890"
        status, _ = await world.exchange(number, reader, writer, get("/once"))
        assert status == 403, "the connection is like any other"
        await world.spine.settled()
        (passed, _) = world.spine.of(Action.HTTP)
        assert (passed.effect, passed.reason) == (Effect.PASS, Reason.RULE_ALLOW)

    proxied(scenario)


def test_a_deny_cuts_it_all_the_same(proxied):
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await reader.read()

    async def scenario(world: World) -> None:
        world.spine.once = True
        port = await world.server(hold, world.pki.context("a.example", ("http/1.1",)))
        reader, writer = await world.dial(world.name("a.example", port))
        writer.write(f"GET /once HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n".encode())
        await reader.readuntil(b"12345")
        await world.reload(FakePolicy(veto=True, generation=2))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await world.spine.settled()
        assert world.spine.of(Action.HTTP)[0].effect is Effect.CUT

    proxied(scenario)


def test_a_request_whose_approval_was_used_up_is_judged_again_under_the_policy_without_it(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")

        async def used_up() -> bool:
            world.spine.before_begin = None
            await world.reload(FakePolicy(allow=(("GET", "/other"),), generation=2))
            return False

        world.spine.before_begin = used_up
        status, body = await world.ask(number, get("/once"))
        assert status == 403 and refusal(body)["reason"] == "no_rule"
        (record,) = world.spine.of(Action.HTTP)
        assert (record.outcome, record.generation) == (Outcome.DENY, 2) and seen.heads == []

    proxied(scenario)


def test_used_up_and_no_newer_policy_is_a_refusal_and_not_a_loop(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")

        async def used_up() -> bool:
            return False

        world.spine.before_begin = used_up
        status, body = await world.ask(number, get("/once"))
        assert status == 403 and refusal(body)["reason"] == "audit_unavailable" and seen.heads == []

    proxied(scenario)


def test_fake_decide_knows_a_veto():
    """The stand-in says what the tests above take it for."""
    from stockade.types import Binary, Request

    assert fake_decide(Request(Binary.named("x"), "a.example", 443), FakePolicy(veto=True)).reason is Reason.RULE_DENY
