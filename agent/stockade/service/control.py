"""The control socket of a running sandbox: JSON lines between root's commands and the agent, one request and one answer a line.

    → {"v": 1, "verb": "reload", "arguments": {}}
    ← {"v": 1, "ok": true, "answer": {…}}
    ← {"v": 1, "ok": false, "error": {"message": …, "hint": …, "code": …}}

An answer may bring a connected socket along, as SCM_RIGHTS: one agent asks another for the way into its sandbox.

Owns the socket, its name, and who may speak: root, by the directory's mode and by what the kernel says of the peer. Knows no verb; which
there are, and what they do, is `verbs`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade.descriptors import receive
from stockade.policy.neighbour import NAME
from stockade.service.listening import Listening, answers
from stockade.types import StockadeError

log = logging.getLogger(__name__)

VERSION = 1
LINE = 256 * 1024  # octets of the longest request
ANSWER = 16 * 1024 * 1024  # and of the longest answer
SECONDS = 60.0  # a client waits: the longest is a reload of a large policy

_PEER = struct.Struct("iII")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who speaks, as the kernel knows it."""

    pid: int
    uid: int

    @classmethod
    def of(cls, sock: socket.socket) -> Peer:
        pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        return cls(pid, uid)

    def __str__(self) -> str:
        """Whose session it is too, where the machine keeps that: root is who asks, and sudo hides who that was."""
        try:
            login = int(Path(f"/proc/{self.pid}/loginuid").read_text())
        except (OSError, ValueError):
            login = 2**32 - 1
        known = f", logged in as {login}" if login not in (self.uid, 2**32 - 1) else ""
        return f"uid {self.uid}{known}"


@dataclass(frozen=True, slots=True)
class Handed:
    """An answer that brings a socket along, which is closed here once it is on its way."""

    answer: Json
    sock: socket.socket


Verb = Callable[[Json, Peer], Awaitable[Json | Handed]]


class Control(Listening):
    """The listening socket of one sandbox. Taken early, so that the name is ours; served once there is something to serve."""

    @classmethod
    def take(cls, directory: Path, name: str) -> Control:
        """Raises StockadeError when the name is no name, or a running sandbox has it. What a dead agent left is replaced."""
        if not NAME.fullmatch(name):
            raise StockadeError(f"a sandbox cannot be called {name!r}", hint="letters, digits, `.`, `_`, `-`; at most 63", code="bad_name")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        hint = "another --name, or none: every sandbox then gets one of its own"
        taken = StockadeError(f"a sandbox called {name} is running", hint=hint, code="name_taken")
        return cls.bound(_path(directory, name), taken)

    def serve(self, verbs: Mapping[str, Verb]) -> None:
        """Answer on the running loop."""
        self.speak_to_all(lambda client: self._speak(client, verbs))

    async def _speak(self, client: socket.socket, verbs: Mapping[str, Verb]) -> None:
        with client:
            peer = Peer.of(client)
            if peer.uid != 0:
                log.error("control: uid %d was turned away", peer.uid)
                return
            reader, writer = await asyncio.open_connection(sock=client, limit=LINE)
            writer.transport.set_write_buffer_limits(0)  # so that whatever was said is in the kernel before a socket is sent
            try:
                while line := await reader.readline():
                    answer = await _answer(line, verbs, peer)
                    if isinstance(answer, Handed):
                        _hand_over(client, answer)
                        continue
                    writer.write(_line(answer))
                    await writer.drain()
            except (ConnectionError, ValueError):  # it went away, or never ends its line
                pass
            finally:
                writer.close()


def _line(answer: Json) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _hand_over(client: socket.socket, handed: Handed) -> None:
    """Raises ConnectionError when whoever asked is gone, or has left so much unread that there is no room."""
    with handed.sock:
        line = _line(handed.answer)
        try:
            sent = socket.send_fds(client, [line], [handed.sock.fileno()])
        except BlockingIOError:
            sent = 0
    if sent < len(line):
        raise ConnectionAbortedError


async def _answer(line: bytes, verbs: Mapping[str, Verb], peer: Peer) -> Json | Handed:
    try:
        request = json.loads(line)
        if not isinstance(request, dict) or request.get("v") != VERSION:
            raise StockadeError(f"this agent speaks version {VERSION} of the control protocol", code="version")
        verb, arguments = verbs.get(str(request.get("verb"))), request.get("arguments", {})
        if verb is None or not isinstance(arguments, dict):
            raise StockadeError(f"no verb {request.get('verb')!r}", hint=", ".join(verbs), code="no_verb")
        answer = await verb(arguments, peer)
        if isinstance(answer, Handed):
            return Handed(_good(answer.answer), answer.sock)
        return _good(answer)
    except StockadeError as error:
        return {"v": VERSION, "ok": False, "error": {"message": error.message, "hint": error.hint, "code": error.code}}
    except (ValueError, RecursionError) as error:
        return {"v": VERSION, "ok": False, "error": {"message": f"not a request: {error}", "hint": "", "code": "bad_request"}}
    except Exception as error:
        log.exception("control verb failed")
        return {"v": VERSION, "ok": False, "error": {"message": f"the agent failed: {error!r}", "hint": "see its log", "code": "agent"}}


def _good(answer: Json) -> Json:
    return {"v": VERSION, "ok": True, "answer": answer}


# the other end


def running(directory: Path) -> list[str]:
    """Names of the sandboxes whose agent answers, sorted. Raises StockadeError when one may not look."""
    try:
        found = sorted(path for path in directory.iterdir() if path.suffix == ".sock")
    except FileNotFoundError:
        return []
    except PermissionError:
        raise StockadeError(f"{directory} is root's", hint="sudo stockade …", code="not_root") from None
    return [path.name.removesuffix(".sock") for path in found if answers(path)]


def ask(directory: Path, name: str, verb: str, **arguments: Any) -> Json:
    """One request to the agent of one sandbox. Raises StockadeError: what the agent said, or why it could not be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(SECONDS)
        try:
            sock.connect(str(_path(directory, name)))
            sock.sendall(json.dumps({"v": VERSION, "verb": verb, "arguments": arguments}).encode() + b"\n")
            with sock.makefile("rb") as answers:
                line = answers.readline(ANSWER)
        except PermissionError:
            raise StockadeError(f"{directory} is root's", hint="sudo stockade …", code="not_root") from None
        except (FileNotFoundError, ConnectionError):
            known = ", ".join(running(directory)) or "none"
            raise StockadeError(f"no sandbox called {name} is running", hint=f"running: {known}", code="no_sandbox") from None
        except OSError as error:
            raise StockadeError(f"the agent of {name} does not answer: {error}", code="control") from None
    return _understood(line, name)


async def ask_for_socket(directory: Path, name: str, verb: str, seconds: float, **arguments: Any) -> socket.socket:
    """The socket that an answer brings along, on the running loop. Raises StockadeError: what the agent said, or that it said nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            async with asyncio.timeout(seconds):
                await _connect(sock, _path(directory, name))
                await asyncio.get_running_loop().sock_sendall(sock, _line({"v": VERSION, "verb": verb, "arguments": arguments}))
                line, descriptors = await _line_with_descriptors(sock)
        except TimeoutError:
            raise StockadeError(f"the agent of {name} does not answer", code="control") from None
        except (FileNotFoundError, ConnectionError):
            raise StockadeError(f"no sandbox called {name} is running", code="no_sandbox") from None
        except OSError as error:
            raise StockadeError(f"the agent of {name} does not answer: {error}", code="control") from None
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    try:
        _understood(line, name)
        if len(sockets) != 1:
            raise StockadeError(f"the agent of {name} broke off", hint="see its log", code="control")
    except StockadeError:
        for each in sockets:
            each.close()
        raise
    return sockets[0]


async def _connect(sock: socket.socket, path: Path) -> None:
    while True:
        try:
            sock.connect(str(path))
        except BlockingIOError:  # its backlog is full
            await asyncio.sleep(0.01)
        else:
            return


async def _line_with_descriptors(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One short line, and what came with it. Whatever is raised, no descriptor stays open."""
    loop, said, descriptors = asyncio.get_running_loop(), b"", list[int]()
    try:
        while not said.endswith(b"\n"):
            readable = asyncio.Event()
            loop.add_reader(sock, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(sock)
            data, received = receive(sock, LINE, 4)
            descriptors += received
            said += data
            if not data or len(said) > LINE:
                raise ConnectionAbortedError
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return said, descriptors


def _understood(line: bytes, name: str) -> Json:
    """What an answer says. Raises StockadeError: what the agent refused, or that it said nothing."""
    try:
        answer = json.loads(line)
        if answer["ok"]:
            found: Json = answer["answer"]
            return found
        said = answer["error"]
        raise StockadeError(str(said["message"]), hint=str(said["hint"]), code=str(said["code"]))
    except (ValueError, KeyError, TypeError):
        raise StockadeError(f"the agent of {name} broke off", hint="see its log", code="control") from None


def _path(directory: Path, name: str) -> Path:
    if not NAME.fullmatch(name):
        raise StockadeError(f"no sandbox can be called {name!r}", code="bad_name")
    return directory / f"{name}.sock"
