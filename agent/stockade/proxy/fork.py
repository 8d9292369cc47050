"""A worker as the agent holds it: forked early, spoken to over one channel, believed only as far as `codec` and this class check.

The agent is root. It unpickles nothing from a worker, answers only for sandboxes that it gave to this worker, and takes back only tokens
that it handed to this worker. A worker that breaks the protocol is killed: with its sockets gone every sandbox it served fails closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from stockade.policy.rego import judge
from stockade.privacy.serve import launch as classifier
from stockade.proxy import codec, metering
from stockade.proxy.authority import Signing
from stockade.proxy.channel import Channel
from stockade.proxy.parcel import pack
from stockade.proxy.settings import Settings
from stockade.proxy.spine import Begun, Listeners, Passed, Spine
from stockade.types import Decision, Effect, Reason, Request

WORKER_FRAME = 1024 * 1024  # the longest thing a worker may say
CALLS = 4096  # of one worker at once
JUDGE_PAUSE = 0.2  # seconds before the next one is started: one that cannot live must not keep the machine busy

_log = logging.getLogger("stockade.proxy")

Decide = Callable[[Request, Any], Decision]


def _nobody(_connection: socket.socket) -> None:
    """Nobody else speaks on it."""


def live(
    channel: socket.socket,
    uid: int,
    gid: int,
    confine: Callable[[], None] | None,
    settings: Settings | None = None,
    decide: Decide | None = None,
    origin_of: Callable[[socket.socket], Any] | None = None,
    speaker_of: Callable[[socket.socket], Any] | None = None,
) -> NoReturn:
    """The whole life of a worker, from just after the fork. channel: to whoever holds the Worker."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the agent's business
        from stockade.proxy import worker

        if origin_of is not None and speaker_of is None:
            speaker_of = _nobody
        kernel = {"origin_of": origin_of, "speaker_of": speaker_of}
        worker.main(channel, uid=uid, gid=gid, confine=confine, settings=settings or Settings(), decide=decide, **kernel)
        status = 0
    except BaseException as error:  # said here, since nobody above will ever see it
        os.write(2, f"proxy[{os.getpid()}] could not start: {error!r}\n".encode())
    finally:
        os._exit(status)  # never back into the agent's stack: its finally blocks and atexit hooks are not ours


class Worker:
    """One forked proxy worker. `fork` before threads and loop exist, then `connect` on the loop, then `serve` sandboxes."""

    def __init__(self, pid: int, sock: socket.socket, uid: int, reader: int) -> None:
        self.pid, self._uid, self._reader_uid = pid, uid, reader
        self.lost = asyncio.Event()  # the worker is gone or no longer believed
        self._sock = sock
        self._channel: Channel | None = None
        self._spine: Spine | None = None
        self._ready = asyncio.Event()
        self._sandboxes: set[int] = set()
        self._tokens: dict[int, int] = {}  # token of a begun request → its sandbox
        self._commands: dict[int, asyncio.Future[codec.Json]] = {}
        self._number = 0
        self._judge: subprocess.Popen[bytes] | None = None
        self._classifier: subprocess.Popen[bytes] | None = None
        self._following: asyncio.Future[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @classmethod
    def fork(
        cls,
        *,
        uid: int,
        gid: int,
        classifier_uid: int | None = None,
        confine: Callable[[], None] | None = None,
        settings: Settings | None = None,
        decide: Decide | None = None,
        origin_of: Callable[[socket.socket], Any] | None = None,
        speaker_of: Callable[[socket.socket], Any] | None = None,
    ) -> Worker:
        """Fork now; the child imports and drops meanwhile.

        decide, and origin_of with speaker_of, stand in for the policy's and the kernel's; with origin_of alone, nobody else ever speaks.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid = os.fork()
        if pid == 0:
            ours.close()
            live(theirs, uid, gid, confine, settings, decide, origin_of, speaker_of)
        theirs.close()
        return cls(pid, ours, uid, uid if classifier_uid is None else classifier_uid)

    async def connect(self, spine: Spine) -> None:
        """Read the channel on the running loop until the worker says that it has dropped. Raises ConnectionError when it dies before."""
        self._spine = spine
        self._channel = Channel(self._sock, received=self._received, lost=self._end, limit=WORKER_FRAME)
        waits = [asyncio.ensure_future(self._ready.wait()), asyncio.ensure_future(self.lost.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self.lost.is_set():
            raise ConnectionError(f"proxy worker {self.pid} died while it started")

    async def serve(self, sandbox: int, listeners: Listeners, signing: Signing, policy: Any) -> None:
        """Hand a sandbox over. The listening sockets are closed here once the worker has them. Raises ConnectionError."""
        self._sandboxes.add(sandbox)
        await self._judged(policy)
        await self._classified(policy)
        await self._command(("serve", sandbox, signing, policy), [sock.fileno() for sock in listeners])
        for sock in listeners:
            sock.close()

    async def release(self, sandbox: int) -> None:
        """Cut what is left of a sandbox that has ended, and forget it; returns when all of it is on record. Raises ConnectionError."""
        await self._command(("release", sandbox), [])
        self._sandboxes.discard(sandbox)

    async def renew(self, sandbox: int, signing: Signing) -> None:
        """Returns when new connections are shown certificates under this key. Those that are open stay. Raises ConnectionError."""
        await self._command(("renew", sandbox, signing), [])

    async def reload(self, sandbox: int, policy: Any) -> None:
        """Returns when the worker decides under the new policy and what it denies is cut and recorded. Raises ConnectionError."""
        await self._judged(policy)
        await self._classified(policy)
        await self._command(("reload", sandbox, await asyncio.to_thread(pack, policy)), [])

    async def carry(self, sandbox: int, port: int, source: str, outer: socket.socket, inner: socket.socket) -> Passed:
        """Have bytes passed between the two, which are closed here, until both sides are done. Raises ConnectionError with the worker gone.

        port, source: what the newest policy must admit as long as it lasts.
        """
        with outer, inner:
            done = self._say(("pass", sandbox, port, source), [outer.fileno(), inner.fileno()])
            assert self._channel is not None
            await self._channel.drain()
        try:
            return codec.decode_passed(await done)
        except ValueError as error:
            self._distrust()
            raise ConnectionError(f"proxy worker {self.pid}: {error}") from None

    async def _judged(self, policy: Any) -> None:
        """See to it that a policy with Rego finds its judge in the worker: a process of its own, since the worker can start none.

        Without one the worker denies whatever Rego would be asked about.
        """
        if getattr(policy, "rego", None) is None or (self._judge is not None and self._judge.poll() is None):
            return
        try:
            channel, process = await asyncio.to_thread(judge.launch, user=self._uid)
        except OSError as error:
            _log.error("no process to evaluate Rego in: %s", error)
            return
        self._judge = process
        with channel:
            await self._command(("judge",), [channel.fileno()])
        self._watch("evaluates Rego", process, lambda: self._judged(policy))

    async def _classified(self, policy: Any) -> None:
        """The same for a policy that asks what is in a request. It loads meanwhile: the worker waits for it at the first question."""
        if not classifier.wanted(policy) or (self._classifier is not None and self._classifier.poll() is None):
            return
        try:
            launched = await asyncio.to_thread(classifier.launch, self._reader_uid)
        except OSError as error:
            _log.error("no process to classify in: %s", error)
            return
        self._classifier = launched.process
        self._follow(launched.registry)
        with launched.channel:
            await self._command(("classifier",), [launched.channel.fileno()])
        self._watch("classifies", launched.process, lambda: self._classified(policy))

    def _follow(self, registry: socket.socket) -> None:
        """Keep telling the newest classifier what is registered."""
        if self._following is not None:
            self._following.cancel()
        self._following = asyncio.ensure_future(classifier.follow(registry))

    def _watch(self, does: str, process: subprocess.Popen[bytes], again: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Give the worker another one when this one ends."""
        loop, descriptor = asyncio.get_running_loop(), os.pidfd_open(process.pid)

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            process.wait()
            if not self.lost.is_set():
                _log.warning("the process that %s ended", does)
                loop.call_later(JUDGE_PAUSE, lambda: self._spawn(again()))

        loop.add_reader(descriptor, ended)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._calls.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s", error)

    async def close(self) -> None:
        """Cut everything, let the worker finish its records, and reap it."""
        if self._channel is not None and not self.lost.is_set():
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(5):
                    await self._command(("stop",), [])
        if self._following is not None:
            self._following.cancel()
        if self._calls:
            await asyncio.wait(list(self._calls), timeout=5)
        if self._channel is not None:
            self._channel.close()
        else:
            self._sock.close()
        self.lost.set()
        await asyncio.to_thread(self._reap)

    def _reap(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    async def _command(self, command: tuple[Any, ...], descriptors: list[int]) -> None:
        await self._say(command, descriptors)

    def _say(self, command: tuple[Any, ...], descriptors: list[int]) -> asyncio.Future[codec.Json]:
        """Settled when the worker has done it. Raises ConnectionError."""
        if self._channel is None or self.lost.is_set():
            raise ConnectionError(f"proxy worker {self.pid} is gone")
        self._number += 1
        number = self._number
        done: asyncio.Future[codec.Json] = asyncio.get_running_loop().create_future()
        self._commands[number] = done
        self._channel.send(pickle.dumps((number, command)), descriptors)
        return done

    def _end(self) -> None:
        self.lost.set()
        for done in self._commands.values():
            if not done.done():
                done.set_exception(ConnectionError(f"proxy worker {self.pid} is gone"))
        self._commands.clear()

    def _distrust(self) -> None:
        """It said something that our own code never says: end it before it says more."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if self._channel is not None:
            self._channel.close()
        self._end()

    def _received(self, frame: bytes) -> None:
        try:
            message = json.loads(frame)
            if not isinstance(message, dict):
                raise ValueError("an object is wanted")
            self._dispatch(message)
        except (ValueError, RecursionError):
            self._distrust()

    def _dispatch(self, message: codec.Json) -> None:
        match codec.text(message, "call"):
            case "ready":
                self._ready.set()
            case "done":
                self._acknowledge(message)
            case "identify":
                origin = codec.decode_origin(codec.mapping(message, "origin"))
                self._own(origin.sandbox)
                self._answer(message, lambda spine: spine.identify(origin))
            case "resolve":
                origin, generation = codec.decode_origin(codec.mapping(message, "origin")), codec.number(message, "generation")
                self._own(origin.sandbox)
                self._answer(message, lambda spine: spine.resolve(origin, generation))
            case "reach":
                origin, generation = codec.decode_origin(codec.mapping(message, "origin")), codec.number(message, "generation")
                self._own(origin.sandbox)
                self._answer(message, lambda spine: spine.reach(origin, generation))
            case "local":
                sandbox, generation = self._sandbox(message), codec.number(message, "generation")
                self._answer(message, lambda spine: spine.local(sandbox, generation))
            case "record":
                record, sandbox = codec.decode_record(codec.mapping(message, "record")), self._sandbox(message)
                self._answer(message, lambda spine: spine.record(sandbox, record))
            case "begin":
                record, sandbox = codec.decode_record(codec.mapping(message, "record")), self._sandbox(message)
                self._answer(message, lambda spine: self._begin(spine, sandbox, record))
            case "approval":
                identifier, sandbox = codec.text(message, "identifier"), self._sandbox(message)
                self._answer(message, lambda spine: spine.approval(sandbox, identifier))
            case "finish":
                token = codec.number(message, "token")
                if self._tokens.pop(token, None) is None:
                    raise ValueError(f"token {token} is not of this worker")
                http = codec.decode_http(message, "http")
                effect, reason = Effect(codec.text(message, "effect")), Reason(codec.text(message, "reason"))
                detail = codec.decode_detail(message)
                self._answer(message, lambda spine: spine.finish(token, http, effect, reason, detail))
            case "figures":
                sandbox, figures = self._sandbox(message), metering.decode(message)
                if self._spine is not None:
                    self._spine.figures(sandbox, figures)
            case call:
                raise ValueError(f"unknown call {call}")

    def _own(self, sandbox: int) -> None:
        if sandbox not in self._sandboxes:
            raise ValueError(f"sandbox {sandbox} is not of this worker")

    def _sandbox(self, message: codec.Json) -> int:
        sandbox = codec.number(message, "sandbox")
        self._own(sandbox)
        return sandbox

    def _acknowledge(self, message: codec.Json) -> None:
        done = self._commands.pop(codec.number(message, "id"), None)
        if done is None or done.done():
            return
        problem = codec.optional_text(message, "problem")
        if problem is None:
            done.set_result(codec.mapping(message, "value"))
        else:
            done.set_exception(ConnectionError(f"proxy worker {self.pid}: {problem}"))

    async def _begin(self, spine: Spine, sandbox: int, record: Any) -> Begun | None:
        begun = await spine.begin(sandbox, record)
        if begun is not None:
            self._tokens[begun.token] = sandbox
        return begun

    def _answer(self, message: codec.Json, ask: Callable[[Spine], Coroutine[Any, Any, Any]]) -> None:
        if len(self._calls) >= CALLS:
            raise ValueError("too many calls at once")
        task = asyncio.ensure_future(self._reply(codec.number(message, "id"), ask))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _reply(self, number: int, ask: Callable[[Spine], Coroutine[Any, Any, Any]]) -> None:
        assert self._spine is not None and self._channel is not None
        try:
            answer = await ask(self._spine)
        except Exception as error:  # the worker must hear of any failure: it denies then
            self._channel.send(pickle.dumps((number, "failed", str(error))))
            return
        if isinstance(answer, socket.socket):
            with answer:
                self._channel.send(pickle.dumps((number, "socket", None)), [answer.fileno()])
                await self._channel.drain()
        else:
            self._channel.send(pickle.dumps((number, "answer", answer)))
