"""A proxy worker's end of the classifier: asks, waits no longer than allowed, and takes every silence for a failure.

Owns the numbers of requests, which settings the other side knows, and the counters. What comes back is held to the texts that were sent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockade.metrics.figures import Classifier, Failure
from stockade.privacy.finding import Finding
from stockade.privacy.serve import terms, wire
from stockade.privacy.serve.wire import Hello
from stockade.privacy.settings import Settings
from stockade.proxy.channel import Channel

_log = logging.getLogger("stockade.proxy")


class Failed(Exception):
    """No findings, and why not: `why` is a short stable code."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(slots=True)
class Counters:
    """What the classifier did, for whoever exports it."""

    asked: int = 0
    answered: int = 0
    cached: int = 0
    characters: int = 0
    seconds: float = 0.0
    failed: dict[str, int] = field(default_factory=dict)
    provider: str | None = None

    def fail(self, why: str) -> Failed:
        self.failed[why] = self.failed.get(why, 0) + 1
        return Failed(why)


class Client:
    """What the worker asks. Without a channel, or with one that ended, every question fails at once."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.changed: Callable[[], None] = lambda: None  # called when it comes or goes
        self._wanted = False
        self.hello: Hello | None = None
        self._channel: Channel | None = None
        self._greeted = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[list[Any]]] = {}
        self._number = 0
        self._known: set[str] = set()
        self._keys: dict[Settings, tuple[str, wire.Json]] = {}

    def attach(self, sock: socket.socket) -> None:
        """Another classifier takes the place of the one before."""
        if self._channel is not None:
            self._channel.close()
        self._lost()
        self._known.clear()
        self._greeted = asyncio.Event()
        self._wanted = True
        self._channel = Channel(sock, received=self._received, lost=self._lost, limit=wire.ANSWER_BYTES)

    def figures(self) -> Classifier | None:
        """For whoever exports it; None while no policy has asked for a classifier."""
        if not self._wanted:
            return None
        counters, failed = self.counters, dict[Failure, int]()
        for why, count in counters.failed.items():
            failed[Failure.of(why)] = failed.get(Failure.of(why), 0) + count
        hello = self.hello
        return Classifier(
            asked=counters.asked,
            answered=counters.answered,
            cached=counters.cached,
            characters=counters.characters,
            waiting=len(self._waiting),
            up=hello is not None,
            provider=hello.provider[:64] if hello is not None and hello.provider is not None else None,
            missing=tuple(layer[:64] for layer in list(hello.missing)[:8]) if hello is not None else (),
            failed=failed,
        )

    async def classify(
        self,
        texts: Sequence[str],
        settings: Settings,
        *,
        seconds: float,
        lanes: Sequence[Sequence[int]] = (),
        formed: Sequence[int] = (),
        apart: Sequence[int] = (),
        spoken: Sequence[int] = (),
    ) -> list[list[Finding]]:
        """The findings of each text. lanes, formed, apart, spoken: as of Classifier.classify. Raises Failed."""
        self.counters.asked += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                found = await self._ask(texts, settings, seconds, lanes=lanes, formed=formed, apart=apart, spoken=spoken)
        except TimeoutError:
            raise self.counters.fail("timeout") from None
        except Failed as failure:
            raise self.counters.fail(failure.why) from None
        categories = frozenset([*(each.category for each in settings.custom), *(each.category for each in settings.dictionaries)])
        try:
            findings = wire.decode_findings(found, texts, categories)
        except ValueError as error:
            self._distrust(error)
            raise self.counters.fail("nonsense") from None
        self.counters.answered += 1
        self.counters.characters += sum(map(len, texts))
        self.counters.seconds += time.monotonic() - began
        return findings

    async def _ask(
        self,
        texts: Sequence[str],
        settings: Settings,
        seconds: float,
        *,
        lanes: Sequence[Sequence[int]],
        formed: Sequence[int],
        apart: Sequence[int],
        spoken: Sequence[int],
    ) -> list[Any]:
        channel, greeted = self._channel, self._greeted
        if channel is None:
            raise Failed("no_classifier")
        await greeted.wait()
        if channel is not self._channel or self.hello is None:
            raise Failed("no_classifier")
        self._number += 1
        number = self._number
        key = self._tell(channel, settings)
        orders = tuple(map(tuple, lanes))
        asked = wire.encode_asked(wire.Asked(number, tuple(texts), orders, key, seconds, tuple(formed), tuple(apart), tuple(spoken)))
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            channel.send(wire.dump(asked))
            return await answer
        finally:
            self._waiting.pop(number, None)

    def _tell(self, channel: Channel, settings: Settings) -> str:
        if settings not in self._keys:
            if len(self._keys) >= 128:
                self._keys.clear()
            value = terms.encode(settings)
            self._keys[settings] = terms.key_of(value), value
        key, value = self._keys[settings]
        if key not in self._known:
            if len(self._known) >= 128:  # the other side forgets the oldest of twice as many
                self._known.clear()
            channel.send(wire.dump({"settings": key, "value": value}))
            self._known.add(key)
        return key

    def _received(self, frame: bytes) -> None:
        try:
            message = wire.load(frame)
            if "hello" in message:
                if not isinstance(message["hello"], dict):
                    raise ValueError("hello: an object is wanted")
                self._greet(wire.decode_hello(message["hello"]))
                return
            number, failed, found = wire.decode_told(message)
        except ValueError as error:
            self._distrust(error)
            return
        answer = self._waiting.pop(number, None)
        if answer is None or answer.done():
            return  # it came too late
        if failed is None:
            self.counters.cached += message.get("cached") is True
            answer.set_result(found)
        else:
            answer.set_exception(Failed(failed[:64]))

    def _greet(self, hello: Hello) -> None:
        self.hello, self.counters.provider = hello, hello.provider
        for layer, why in hello.missing.items():
            _log.warning("the classifier works without its %s, and where it is needed on_failure decides: %s", layer, why)
        self._greeted.set()
        self.changed()

    def _distrust(self, error: ValueError) -> None:
        _log.error("the classifier said what no classifier of ours says: %s", error)
        if self._channel is not None:
            self._channel.close()  # whose end ends the process: who watches it starts another
        self._lost()

    def _lost(self) -> None:
        self._channel, self.hello = None, None
        self._greeted.set()
        self.changed()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Failed("lost"))
        self._waiting.clear()
