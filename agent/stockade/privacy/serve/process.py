"""The classifier: texts in, findings out, on the one socket that it was started with.

It ends with that socket. A request that would have to wait for too many others is refused at once, one whose time is over is dropped before
it is begun, and a thread that does not come back ends the process: whoever watches it starts another. All three are failures to whoever
asked.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from stockade.privacy import deadline
from stockade.privacy.documents.registry import Registry
from stockade.privacy.finding import Finding
from stockade.privacy.serve import terms, wire
from stockade.privacy.serve.batch import digest
from stockade.privacy.serve.confine import drop
from stockade.privacy.serve.layers import Layers, load
from stockade.privacy.settings import Settings
from stockade.proxy.channel import Channel

WAITING = 256  # requests
WAITING_CHARACTERS = 64 << 20
READERS = 4  # requests read at the same time; what they ask of the model is one batch
KEPT_SETTINGS = 256
VERDICTS, VERDICT_FINDINGS = 2_000, 200_000
REGISTRY_BYTES = 1 << 30
STUCK = 60.0  # seconds beyond its deadline after which a request is not waited for any more

_log = logging.getLogger("stockade.classifier")


def main(descriptor: int, registry: int, uid: int) -> None:
    """The whole life of the process. Everything that reads a file comes before `drop`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the agent's business
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.geteuid() == 0:
        os.unshare(os.CLONE_NEWNET)  # from the first import on: there is no network for any library to use
    sock, told = socket.socket(fileno=descriptor), socket.socket(fileno=registry)
    with ThreadPoolExecutor(READERS) as pool, ThreadPoolExecutor(READERS) as beside:
        layers = load(max(1, min(2, os.cpu_count() or 1)), beside)
        rehearse(layers, pool, beside)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        gc.freeze()
        drop(uid, gpu=layers.hello.provider is not None and layers.hello.provider != "CPUExecutionProvider")
        loop.run_until_complete(Process(sock, layers, pool, told).run())
    os._exit(0)


def rehearse(layers: Layers, *pools: ThreadPoolExecutor) -> None:
    """Load what Python loads on first use, and start every thread: afterwards there is no file to open and no thread to start."""
    started = [pool.submit(time.sleep, 0.05) for pool in pools for _ in range(READERS)]
    for each in started:
        each.result()
    said = "Patient John Smith, MRN 12345678, born 01/02/1960, phone +1 202 555 0143, key = 'aGVsbG8gd29ybGQgdGhpcyBpcw=='"
    text = f"{said}\nimport os\ndef f():\n  return 1\n"
    for number in range(2):
        layers.classifier.classify([text * 30, f"Hello {number}"], Settings(), conversation=True, lanes=[[0, 1]])


def _nobody() -> None:
    """The agent is gone, and the worker with it: that channel ends this process."""


class Process:
    def __init__(self, sock: socket.socket, layers: Layers, pool: ThreadPoolExecutor, registry: socket.socket) -> None:
        self._sock, self._layers, self._pool, self._registry = sock, layers, pool, registry
        self._settings: OrderedDict[str, Settings] = OrderedDict()
        self._verdicts: OrderedDict[bytes, tuple[tuple[Finding, ...], ...]] = OrderedDict()
        self._held = 0
        self._waiting = self._characters = 0
        self._running: dict[int, float] = {}  # thread's request → when it is too late
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Never returns: the process ends with its socket, or with status 3 when a thread did not come back."""
        self._channel = Channel(self._sock, received=self._received, lost=self._over.set, limit=wire.REQUEST_BYTES)
        self._channel.send(wire.dump({"hello": wire.encode_hello(self._layers.hello)}))
        registry = Channel(self._registry, received=self._renew, lost=_nobody, limit=REGISTRY_BYTES)
        while not self._over.is_set():
            try:
                async with asyncio.timeout(1):
                    await self._over.wait()
            except TimeoutError:
                if any(time.monotonic() > late for late in self._running.values()):
                    os._exit(3)
        registry.close()
        os._exit(0)  # a thread may still be reading for nobody

    def _received(self, frame: bytes) -> None:
        try:
            message = wire.load(frame)
            if "value" in message:
                self._keep(message)
            else:
                self._ask(wire.decode_asked(message))
        except ValueError as error:
            _log.error("a frame that nobody of ours sends: %s", error)
            os._exit(4)

    def _renew(self, frame: bytes) -> None:
        """Another registry. What was found under the one before is forgotten; what is being read is answered, and not remembered."""
        registry: Registry | str
        try:
            registry = Registry.from_bytes(frame) if frame else Registry()
        except ValueError as error:
            registry = str(error)
        layers = self._layers.with_registry(registry)
        if layers.hello != self._layers.hello:
            self._layers = layers
            self._verdicts.clear()
            self._held = 0
            self._channel.send(wire.dump({"hello": wire.encode_hello(layers.hello)}))

    def _keep(self, message: wire.Json) -> None:
        key, value = message.get("settings"), message.get("value")
        if not isinstance(key, str) or len(key) > 64 or not isinstance(value, dict):
            raise ValueError("settings: a key and an object are wanted")
        self._settings[key] = terms.decode(value)
        if len(self._settings) > KEPT_SETTINGS:
            self._settings.popitem(last=False)

    def _ask(self, asked: wire.Asked) -> None:
        settings = self._settings.get(asked.settings)
        size = sum(map(len, asked.texts))
        if settings is None:
            self._tell(wire.Told(asked.number, failed="unknown_settings"))
        elif self._waiting >= WAITING or (self._waiting and self._characters + size > WAITING_CHARACTERS):
            self._tell(wire.Told(asked.number, failed="overload"))
        else:
            task = asyncio.get_running_loop().create_task(self._answer(asked, settings, size))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: wire.Asked, settings: Settings, size: int) -> None:
        self._waiting += 1
        self._characters += size
        try:
            key = self._key(asked)
            known = self._verdicts.get(key)
            if known is not None:
                self._verdicts.move_to_end(key)
                told = wire.Told(asked.number, known, cached=True)
            else:
                layers = self._layers
                work = self._pool.submit(self._classify, layers, asked, settings, time.monotonic() + asked.seconds)
                told = await asyncio.wrap_future(work)
                if told.failed is None and layers is self._layers:
                    self._remember(key, told.findings)
        finally:
            self._waiting -= 1
            self._characters -= size
        self._tell(told)

    def _classify(self, layers: Layers, asked: wire.Asked, settings: Settings, until: float) -> wire.Told:
        """In a thread."""
        if time.monotonic() > until:
            return wire.Told(asked.number, failed="deadline")
        self._running[asked.number] = until + STUCK
        try:
            with deadline.until(until):
                found = layers.classifier.classify(
                    asked.texts,
                    settings,
                    conversation=True,
                    lanes=asked.lanes,
                    formed=asked.formed,
                    apart=asked.apart,
                    spoken=asked.spoken,
                )
        except deadline.Late:
            return wire.Told(asked.number, failed="deadline")
        except Exception as error:  # of whichever detector: no findings is not an answer
            return wire.Told(asked.number, failed=f"{type(error).__name__}")
        finally:
            del self._running[asked.number]
        return wire.Told(asked.number, tuple(map(tuple, found)))

    def _key(self, asked: wire.Asked) -> bytes:
        orders = repr((asked.lanes, asked.formed, asked.apart, asked.spoken))
        return digest(asked.settings + orders + "".join(digest(text).hex() for text in asked.texts))

    def _remember(self, key: bytes, findings: tuple[tuple[Finding, ...], ...]) -> None:
        self._held += sum(map(len, findings)) - sum(map(len, self._verdicts.get(key, ())))
        self._verdicts[key] = findings
        while len(self._verdicts) > VERDICTS or (self._held > VERDICT_FINDINGS and self._verdicts):
            self._held -= sum(map(len, self._verdicts.popitem(last=False)[1]))

    def _tell(self, told: wire.Told) -> None:
        frame = wire.dump(wire.encode_told(told))
        if len(frame) > wire.ANSWER_BYTES:
            frame = wire.dump(wire.encode_told(wire.Told(told.number, failed="too_many_findings")))
        self._channel.send(frame)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
