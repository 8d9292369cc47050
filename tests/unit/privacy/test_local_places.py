"""Who may ask a local server now, who waits, and what is known of the server."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from stockade.privacy.local import LocalFailure
from stockade.privacy.local.health import BAD_FOR, GOOD_FOR, Health
from stockade.privacy.local.places import Places


def test_places_go_in_the_order_of_arrival_and_the_queue_has_an_end() -> None:
    async def scenario() -> None:
        places, order = Places(1, 2), list[int]()

        async def call(number: int) -> None:
            await places.take()
            order.append(number)

        await places.take()
        waiting = [asyncio.create_task(call(number)) for number in (1, 2)]
        await asyncio.sleep(0)
        assert places.waiting == 2
        with pytest.raises(LocalFailure, match="too many"):
            await places.take()
        for _ in range(2):
            places.give_back()
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert order == [1, 2]
        places.give_back()
        await asyncio.wait_for(places.take(), 1)  # it is free again

    asyncio.run(scenario())


def test_who_leaves_the_queue_takes_no_place_along() -> None:
    async def scenario() -> None:
        places = Places(1, 2)
        await places.take()
        first, second = (asyncio.create_task(places.take()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert places.waiting == 1
        places.give_back()  # the second one's turn, which leaves at the same moment
        second.cancel()
        for task in (first, second):
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.wait_for(places.take(), 1)

    asyncio.run(scenario())


def test_nobody_waits_where_there_is_no_queue() -> None:
    async def scenario() -> None:
        places = Places(1, 0)
        await places.take()
        with pytest.raises(LocalFailure):
            await places.take()

    asyncio.run(scenario())


def test_what_is_known_of_a_server_grows_old() -> None:
    health = Health()
    assert not health.good(0) and not health.bad(0)
    health.answered(10)
    assert health.good(10 + GOOD_FOR / 2) and not health.good(10 + GOOD_FOR)
    health.failed(20, "gone")
    assert not health.good(20) and health.bad(20) == "gone" and not health.bad(20 + BAD_FOR)
    health.answered(21)
    health.doubt()  # one call failed: look before the next, and tell nobody that it is gone
    assert not health.good(21) and not health.bad(21)
