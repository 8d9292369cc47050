"""What a real worker measures of real connections reaches the agent, without being asked for."""

from __future__ import annotations

import asyncio
import ssl

from stockade.metrics.figures import Kind, Stage

from .conftest import FakePolicy, World

GET = "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"


async def until(world: World, stage: Stage, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(found.stages[stage].count for found in world.spine.measured if stage in found.stages) < count:
            await asyncio.sleep(0.05)


def test_each_stage_of_a_request_is_timed_once(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        assert (await world.ask(number, GET))[0] == 200
        assert (await world.ask(number, GET.replace("GET", "POST")))[0] == 403
        await until(world, Stage.DECIDE, 2)
        await until(world, Stage.FIRST_BYTE, 1)
        summed = dict.fromkeys(Stage, 0)
        for found in world.spine.measured:
            for stage, histogram in found.stages.items():
                assert histogram.total > 0
                summed[stage] += histogram.count
        wanted = {
            Stage.CONNECT: 2,
            Stage.CLIENT_TLS: 2,
            Stage.DECIDE: 2,
            Stage.UPSTREAM_CONNECT: 1,
            Stage.UPSTREAM_TLS: 1,
            Stage.FIRST_BYTE: 1,
        }
        assert {stage: count for stage, count in summed.items() if count} == wanted

    proxied(scenario)


def test_octets_of_a_relay_are_told_while_it_is_open_and_its_end_too(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        context = ssl.create_default_context(cafile=str(world.pki.bundle))
        assert (await world.ask(number, GET, relay=True, context=context))[0] == 200
        async with asyncio.timeout(20):
            while True:
                measured = world.spine.measured
                received = sum(found.received.get(Kind.RELAYED, 0) for found in measured)
                if received > 500 and measured[-1].connections[Kind.RELAYED] == 0:
                    break
                await asyncio.sleep(0.05)

    proxied(scenario, policy=FakePolicy(relay=frozenset({"a.example"})))
