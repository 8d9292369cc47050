"""The agent as the worker speaks to it: calls multiplexed by number over the channel. Nothing here decides."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
from collections.abc import Callable
from typing import Any

from stockade.kernel.abi import Origin
from stockade.proxy import codec
from stockade.proxy.channel import Channel
from stockade.proxy.spine import Begun, Caller, Detail, Local, Recorded, Resolved, Unreached
from stockade.types import Effect, Http, Reason, Record


class Agent:
    """The worker's end. Commands of the agent go to `command(number, command)`; every other frame answers one of our calls."""

    def __init__(self, command: Callable[[int, tuple[Any, ...]], None]) -> None:
        self._command = command
        self._channel: Channel | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    def attach(self, channel: Channel) -> None:
        self._channel = channel

    def received(self, frame: bytes) -> None:
        """frame: of the agent: an answer to what was asked by this number, or a command with it."""
        number, *rest = pickle.loads(frame)  # noqa: S301 - from the agent, which is root and made this process
        if len(rest) == 1:
            self._command(number, rest[0])
            return
        kind, value = rest
        if kind == "socket":
            value = socket.socket(fileno=self.take_descriptors(1)[0])
        future = self._waiting.pop(number, None)
        if future is None or future.done():
            if kind == "socket":
                value.close()
            return
        if kind == "failed":
            future.set_exception(ConnectionError(value))
        else:
            future.set_result(value)

    def say(self, call: str, **fields: Any) -> int:
        """One frame, no answer awaited. Returns its number."""
        assert self._channel is not None
        self._number += 1
        self._channel.send(json.dumps({"call": call, "id": self._number, **fields}, separators=(",", ":")).encode())
        return self._number

    def done(self, number: int, problem: str | None = None, value: codec.Json | None = None) -> None:
        """Acknowledge a command of the agent; value: what came of it, where it wants to know."""
        assert self._channel is not None
        self._channel.send(json.dumps({"call": "done", "id": number, "problem": problem, "value": value or {}}).encode())

    def take_descriptors(self, count: int) -> list[int]:
        """Descriptors that came with a command, in the order sent. Raises ValueError when fewer came."""
        assert self._channel is not None
        return self._channel.take_descriptors(count)

    async def drain(self) -> None:
        assert self._channel is not None
        await self._channel.drain()

    async def _ask(self, call: str, **fields: Any) -> Any:
        number = self.say(call, **fields)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def identify(self, origin: Origin) -> Caller:
        answer: Caller = await self._ask("identify", origin=codec.encode_origin(origin))
        return answer

    async def resolve(self, origin: Origin, generation: int) -> Resolved:
        answer: Resolved = await self._ask("resolve", origin=codec.encode_origin(origin), generation=generation)
        return answer

    async def reach(self, origin: Origin, generation: int) -> socket.socket | Unreached:
        answer: socket.socket | Unreached = await self._ask("reach", origin=codec.encode_origin(origin), generation=generation)
        return answer

    async def local(self, sandbox: int, generation: int) -> Local:
        answer: Local = await self._ask("local", sandbox=sandbox, generation=generation)
        return answer

    async def record(self, sandbox: int, record: Record) -> Recorded:
        answer: Recorded = await self._ask("record", sandbox=sandbox, record=codec.encode_record(record))
        return answer

    async def begin(self, sandbox: int, record: Record) -> Begun | None:
        answer: Begun | None = await self._ask("begin", sandbox=sandbox, record=codec.encode_record(record))
        return answer

    async def approval(self, sandbox: int, identifier: str) -> dict[str, Any] | None:
        answer: dict[str, Any] | None = await self._ask("approval", sandbox=sandbox, identifier=identifier)
        return answer

    def finish(self, token: int, http: Http | None, effect: Effect, reason: Reason, detail: Detail | None = None) -> None:
        """Not awaited: the answer is on its way already, and an agent that cannot write refuses the next `begin`."""
        self.say("finish", **_end(token, http, effect, reason, detail))

    async def conclude(self, token: int, http: Http | None, effect: Effect, reason: Reason, detail: Detail | None = None) -> str:
        """As finish, for an answer that names the record. Raises ConnectionError when it could not be written."""
        name: str = await self._ask("finish", **_end(token, http, effect, reason, detail))
        return name


def _end(token: int, http: Http | None, effect: Effect, reason: Reason, detail: Detail | None) -> codec.Json:
    return {"token": token, "http": codec.encode_http(http), "effect": effect.value, "reason": reason.value, "detail": detail or {}}
