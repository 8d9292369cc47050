"""A call that the local model answers: asked by the worker itself, over a connection of its own, and handed to the client as it comes.

Until the model has begun to answer nothing has gone to the client, so all that can fail before that is a LocalFailure, and the policy says
what becomes of the call. What fails later is said in the client's own API, as an error in its stream: half an answer is never a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from stockade.metrics.figures import Asked, LocalModel
from stockade.policy.privacy import Local
from stockade.privacy.local import LocalFailure, Translator
from stockade.privacy.local.health import Health
from stockade.privacy.local.places import Places
from stockade.proxy.screen import Detail, Header
from stockade.proxy.settings import Settings
from stockade.proxy.spine import Local as Where
from stockade.proxy.upstream import Trust
from stockade.proxy.wire import Broken, Wire

_REFUSAL = 64 * 1024  # octets of an error that are read, to tell a call that is too long from another failure
_TOO_LONG = re.compile(r"context[ _-]?(?:size|length|window)|max(?:imum)?[ _-]?(?:model[ _-]?len|context)|prompt is too long", re.I)
_CODE = re.compile(r"[a-z_]{1,64}")


class LocalModels:
    """The local servers that policies name: one queue and one health for each, for all sandboxes of this worker."""

    def __init__(self, trust: Trust, settings: Settings) -> None:
        self._trust, self._settings = trust, settings
        self._servers: dict[tuple[str, str, int, int], Server] = {}

    def figures(self, local: Local) -> LocalModel:
        return self.at(local).figures()

    def at(self, local: Local) -> Server:
        key = (local.url, local.api, local.parallel, local.queue)
        if key not in self._servers:
            self._servers[key] = Server(local, self._trust, self._settings)
        return self._servers[key]


class Server:
    """One local server. named: its host and port as a URL has them."""

    def __init__(self, local: Local, trust: Trust, settings: Settings) -> None:
        url = urlsplit(local.url)
        self._host, self._tls = url.hostname or "", url.scheme == "https"
        self._port = url.port or (443 if self._tls else 80)
        self._trust, self._settings = trust if self._tls else None, settings
        self._base, self._api = url.path.rstrip("/"), local.api
        self.named = f"{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"
        self.places, self.health = Places(local.parallel, local.queue), Health()
        self._looking = asyncio.Lock()

    def figures(self) -> LocalModel:
        return LocalModel(self.health.up, self.places.waiting, self.places.running)

    async def open(self, addresses: Sequence[str]) -> Wire:
        """Raises Broken."""
        return await Wire.open(addresses, self._port, self._settings.dial_seconds, self._trust, self._host)

    async def ready(self, where: Where) -> None:
        """Look whether it is there, unless it answered lately. Who comes meanwhile waits for what is seen. Raises LocalFailure."""
        if self.health.good(time.monotonic()):
            return
        async with self._looking:
            if self.health.good(time.monotonic()):
                return
            if why := self.health.bad(time.monotonic()):
                raise LocalFailure(why, Asked.SILENT)
            try:
                async with asyncio.timeout(self._settings.health_seconds):
                    await self._look(where)
            except (Broken, TimeoutError) as problem:
                failure = self.silent(str(problem) or "it says nothing")
                self.health.failed(time.monotonic(), str(failure))
                raise failure from problem
            self.health.answered(time.monotonic())

    async def _look(self, where: Where) -> None:
        """Ask for the list of its models: each of the APIs has one, and an answer of any sort but a failure means that it is there."""
        models = "/api/tags" if self._api == "ollama" else "/models" if self._base.endswith("/v1") else "/v1/models"
        wire = await self.open(where.addresses)
        try:
            await wire.send("GET", self._base + models, self.headers((("accept", "application/json"),), where.key))
            status, _ = await wire.head()
        finally:
            wire.close()
        if status >= 500:
            raise Broken(f"it is not ready ({status})")
        if status in (401, 403):
            raise Broken(f"it does not take its key ({status})")

    def headers(self, others: Sequence[Header], key: str | None) -> tuple[Header, ...]:
        """All that it is sent; nothing of the client's is among them."""
        own = (("authorization", f"Bearer {key}"),) if key else ()
        return (("host", self.named), *others, *own, ("connection", "close"))

    def silent(self, why: str) -> LocalFailure:
        self.health.doubt()
        return LocalFailure(f"the local model does not answer: {why}", Asked.SILENT)


class Ask:
    """One call. `begin` it; then `take` is the connection that its answer comes on, as HTTP. `close` ends it in any state."""

    def __init__(self, server: Server, where: Where, translator: Translator, seconds: float, tell: Callable[[Asked | None], None]) -> None:
        """tell: told what came of it, at its end; None when there is something else to be seen."""
        self.translator, self._tell = translator, tell
        self._server, self._where, self._seconds = server, where, seconds
        self._task: asyncio.Task[None] | None = None
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._theirs: socket.socket | None = None
        self._queued_ms = 0
        self._outcome = Asked.LEFT
        self.failure: LocalFailure | None = None

    @property
    def size(self) -> int:
        """Octets that go to the local server."""
        return len(self.translator.outgoing.body)

    async def begin(self) -> None:
        """Until there is something for the client. Raises LocalFailure; after that this is over."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._begun

    def take(self) -> socket.socket | None:
        """The other end of the answer; None the second time, and when it is over already."""
        theirs, self._theirs = self._theirs, None
        return theirs

    def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
        if self._task is not None and not self._begun.done():
            self._begun.set_exception(LocalFailure("nobody waits for the answer any more"))
        if (theirs := self.take()) is not None:
            theirs.close()

    def said(self) -> Detail:
        """For the record, once it is over."""
        detail: Detail = {"queued_ms": self._queued_ms} if self._queued_ms else {}
        return detail | {"local_failure": str(self.failure)[:256]} if self.failure is not None else detail

    async def _run(self) -> None:
        """All of it, in a task of its own: it goes on after `begin` returned."""
        try:
            self._tell(None)
            try:
                async with asyncio.timeout(self._seconds):
                    await self._take_place()
            except TimeoutError:
                raise LocalFailure("the local model had no place for the call in time", Asked.QUEUE) from None
            self._tell(None)
            try:
                await self._exchange()
            finally:
                self._server.places.give_back()
        except LocalFailure as failure:
            self._fail(failure)
        except Exception:
            self._fail(LocalFailure("the local model could not be asked"))
            raise
        finally:
            self._tell(self.failure.outcome if self.failure is not None else self._outcome)
            if not self._begun.done():
                self._begun.cancel()

    def _fail(self, failure: LocalFailure) -> None:
        self.failure = failure
        if not self._begun.done():
            self._begun.set_exception(failure)

    async def _take_place(self) -> None:
        began = time.monotonic()
        await self._server.places.take()
        self._queued_ms = int((time.monotonic() - began) * 1000)

    async def _exchange(self) -> None:
        wire: Wire | None = None
        try:
            async with asyncio.timeout(self._seconds) as clock:
                await self._server.ready(self._where)
                wire = await self._asked()
                first, over = await self._first(wire, clock)
            await self._hand_over(wire, first, over)
        except Broken as problem:
            raise self._server.silent(str(problem)) from problem
        except TimeoutError:
            raise self._server.silent(f"it says nothing for {self._seconds:g} seconds") from None
        finally:
            if wire is not None:
                wire.close()

    async def _asked(self) -> Wire:
        """The call is out and the answer's head is there, with nothing against it. Raises Broken, LocalFailure."""
        outgoing = self.translator.outgoing
        wire = await self._server.open(self._where.addresses)
        try:
            await wire.send("POST", outgoing.path, self._server.headers(outgoing.headers, self._where.key), outgoing.body)
            status, headers = await wire.head()
            if status != HTTPStatus.OK:
                raise await _refusal(wire, status)
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise LocalFailure("the local model answers in an encoding that it was not asked for")
        except BaseException:
            wire.close()
            raise
        return wire

    async def _first(self, wire: Wire, clock: asyncio.Timeout) -> tuple[bytes, bool]:
        """The first of the answer that a client can be given, and whether it is all. A model that thinks aloud is not silent."""
        made = b""
        while not made:
            clock.reschedule(asyncio.get_running_loop().time() + self._seconds)
            piece = await wire.piece()
            if piece is None:
                return self.translator.end(), True
            made = self.translator.feed(piece)
        return made, False

    async def _hand_over(self, wire: Wire, made: bytes, over: bool) -> None:
        """Raises nothing for what the client does; what the server does wrong from here on is told inside the answer."""
        self._server.health.answered(time.monotonic())
        ours, self._theirs = socket.socketpair()
        ours.setblocking(False)
        self._theirs.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        if self._begun.done():  # closed meanwhile
            writer.close()
            return
        self._begun.set_result(None)
        try:
            await reader.readuntil(b"\r\n\r\n")  # HTTP has nothing to say to who has not asked
            writer.write(_head(self.translator.content_type))
            try:
                while True:
                    writer.write(_chunk(made))
                    await writer.drain()
                    if over:
                        break
                    made, over = await self._more(wire)
            except LocalFailure as failure:
                self.failure = failure
                writer.write(_chunk(self.translator.fail(f"Stockade: {failure}")))
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            self._outcome = Asked.ANSWERED
            await reader.read(1)  # until the other side is done: what it has not read yet would be lost
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the client has left
        finally:
            writer.close()

    async def _more(self, wire: Wire) -> tuple[bytes, bool]:
        try:
            async with asyncio.timeout(self._seconds):
                piece = await wire.piece()
        except Broken as problem:
            raise LocalFailure(f"the local model stopped in the middle of its answer: {problem}", Asked.BROKE_OFF) from problem
        except TimeoutError:
            raise self._server.silent(f"it says nothing for {self._seconds:g} seconds in the middle of its answer") from None
        return (self.translator.end(), True) if piece is None else (self.translator.feed(piece), False)


async def _refusal(wire: Wire, status: int) -> LocalFailure:
    """Why a server does not answer. Its own words are kept back: servers repeat in them what they were asked."""
    said = b""
    with contextlib.suppress(Broken):
        while len(said) < _REFUSAL and (piece := await wire.piece()) is not None:
            said += piece
    code = _code(said)
    if status in (400, 413, 422, 500) and _TOO_LONG.search(said.decode("utf-8", "replace")):
        return LocalFailure("the call is longer than what the local model takes", Asked.CONTEXT)
    return LocalFailure(f"the local model answers with {status}{f' ({code})' if code else ''}")


def _code(said: bytes) -> str:
    try:
        error: Any = json.loads(said)["error"]
        code = next(error[key] for key in ("code", "type") if isinstance(error.get(key), str))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        return ""
    return code if _CODE.fullmatch(code) else ""


def _head(content_type: str) -> bytes:
    lines = (
        "HTTP/1.1 200 OK",
        f"content-type: {content_type}",
        "cache-control: no-store",
        "transfer-encoding: chunked",
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""
