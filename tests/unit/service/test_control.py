"""The control socket: one name, root alone, one line for one line."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from stockade.service.control import LINE, Control, Json, Peer, ask, running
from stockade.types import StockadeError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the socket is root's")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "control"


async def echo(arguments: Json, peer: Peer) -> Json:
    return {"arguments": arguments, "uid": peer.uid}


async def fail(_arguments: Json, _peer: Peer) -> Json:
    raise StockadeError("it is so", hint="do that", code="so")


async def break_(_arguments: Json, _peer: Peer) -> Json:
    raise ZeroDivisionError


VERBS = {"echo": echo, "fail": fail, "break": break_}


def served[T](directory: Path, work: Callable[[Control], Awaitable[T]], name: str = "box") -> T:
    async def main() -> T:
        control = Control.take(directory, name)
        control.serve(VERBS)
        try:
            return await work(control)
        finally:
            control.close()

    return asyncio.run(main())


def said(path: Path, *lines: bytes) -> list[Json]:
    """The answers to lines on one connection, until it ends."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        try:
            sock.sendall(b"".join(lines))
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as answers:
                return [json.loads(line) for line in answers]
        except ConnectionError:
            return []


def test_a_question_and_its_answer(directory: Path) -> None:
    async def work(control: Control) -> None:
        assert (directory.stat().st_mode & 0o777, control.path.stat().st_mode & 0o777) == (0o700, 0o600)
        assert await asyncio.to_thread(ask, directory, "box", "echo", a=[1, "x\n"]) == {"arguments": {"a": [1, "x\n"]}, "uid": 0}
        assert await asyncio.to_thread(running, directory) == ["box"]

    served(directory, work)
    assert running(directory) == []


def test_what_the_agent_says_is_what_the_client_raises(directory: Path) -> None:
    async def work(_control: Control) -> None:
        for verb, code, words in (
            ("fail", "so", "it is so"),
            ("break", "agent", "ZeroDivisionError"),
            ("other", "no_verb", "no verb 'other'"),
        ):
            with pytest.raises(StockadeError, match=words) as caught:
                await asyncio.to_thread(ask, directory, "box", verb)
            assert caught.value.code == code

    served(directory, work)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\n", "bad_request"),
        (b"{\n", "bad_request"),
        (b"\xff\xff\n", "bad_request"),
        (b"[" * 100_000 + b"\n", "bad_request"),
        (b"[]\n", "version"),
        (b'{"verb": "echo"}\n', "version"),
        (b'{"v": 2, "verb": "echo"}\n', "version"),
        (b'{"v": 1, "verb": "echo", "arguments": []}\n', "no_verb"),
        (b'{"v": 1, "verb": ["echo"]}\n', "no_verb"),
    ],
)
def test_what_is_no_request_is_answered_and_the_next_one_too(directory: Path, line: bytes, code: str) -> None:
    async def work(control: Control) -> None:
        first, second = await asyncio.to_thread(said, control.path, line, b'{"v": 1, "verb": "echo"}\n')
        assert first["ok"] is False and first["error"]["code"] == code and second["ok"] is True

    served(directory, work)


def test_a_line_without_end_ends_the_connection_and_nothing_else(directory: Path) -> None:
    async def work(control: Control) -> None:
        assert await asyncio.to_thread(said, control.path, b"x" * (2 * LINE)) == []
        assert (await asyncio.to_thread(ask, directory, "box", "echo"))["uid"] == 0

    served(directory, work)


def test_a_silent_client_keeps_nobody_waiting(directory: Path) -> None:
    async def work(control: Control) -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(control.path))
            assert (await asyncio.to_thread(ask, directory, "box", "echo"))["uid"] == 0

    served(directory, work)


def test_a_peer_that_is_not_root_hears_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory keeps others out; what the kernel says of the peer does so too."""
    monkeypatch.setattr(Peer, "of", classmethod(lambda cls, _sock: cls(1, 1000)))

    async def work(control: Control) -> None:
        assert await asyncio.to_thread(said, control.path, b'{"v": 1, "verb": "echo"}\n') == []

    served(directory, work)


def test_a_name_is_taken_while_its_agent_lives_and_not_after(directory: Path) -> None:
    first = Control.take(directory, "box")
    with pytest.raises(StockadeError) as caught:
        Control.take(directory, "box")
    assert caught.value.code == "name_taken"
    Control.take(directory, "box-2").close()
    first._sock.close()  # as a kill does: the name stays in the directory
    assert first.path.exists() and running(directory) == []
    with pytest.raises(StockadeError) as caught:
        ask(directory, "box", "echo")
    assert caught.value.code == "no_sandbox"
    Control.take(directory, "box").close()
    assert not first.path.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../box", "a/b", ".box", "-box", "a b", "a\n", "x" * 64, "ä"])
def test_what_is_no_name(directory: Path, name: str) -> None:
    for work in (lambda: Control.take(directory, name), lambda: ask(directory, name, "echo")):
        with pytest.raises(StockadeError) as caught:
            work()
        assert caught.value.code == "bad_name"


def test_an_agent_that_breaks_off(directory: Path) -> None:
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "box.sock"))
        listener.listen()

        async def work() -> None:
            asked = asyncio.create_task(asyncio.to_thread(ask, directory, "box", "echo"))
            listener.setblocking(False)
            client, _ = await asyncio.get_running_loop().sock_accept(listener)
            await asyncio.get_running_loop().sock_recv(client, 1024)
            client.close()
            with pytest.raises(StockadeError) as caught:
                await asked
            assert caught.value.code in ("control", "no_sandbox")

        asyncio.run(work())
