"""HTTP/1.1 through a real worker: what is allowed goes out canonical, what is not is answered with a 403 that says why."""

from __future__ import annotations

from stockade.types import Action, Effect, Outcome, Reason

from .conftest import FakePolicy, World, refusal


def test_an_allowed_get_reaches_the_server_and_its_record_is_complete(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        status, body = await world.ask(number, "GET /x/../y?q=1 HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert (status, body) == (200, b"GET /y?q=1 HTTP/1.1")
        await world.spine.settled()
        (record,) = world.spine.of(Action.HTTP)
        assert (record.outcome, record.effect, record.reason) == (Outcome.ALLOW, Effect.PASS, Reason.RULE_ALLOW)
        assert record.http is not None and (record.http.method, record.http.path, record.http.status) == ("GET", "/y", 200)
        assert record.http.response_bytes == len(body)

    proxied(scenario)


def test_a_denied_method_is_a_json_403_and_nothing_is_dialled(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        status, body = await world.ask(number, "POST /y HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n")
        assert status == 403
        answer = refusal(body)
        assert (answer["level"], answer["reason"], answer["binary"], answer["method"]) == ("method", "no_rule", "curl", "POST")
        assert seen.connections == 0 and world.spine.resolved == []

    proxied(scenario, policy=FakePolicy())
