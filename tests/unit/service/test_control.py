"""The control socket: one name, root alone, one line for one line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from stockade.service.control import LINE, Control, Handed, Json, Peer, ask, ask_for_socket, running
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


async def hand(arguments: Json, _peer: Peer) -> Handed:
    """One end, the other of which says what was asked."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(str(arguments["say"]).encode())
    return Handed({}, theirs)


VERBS = {"echo": echo, "fail": fail, "break": break_, "hand": hand}


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


# a socket that comes with an answer


def everything(sock: socket.socket) -> bytes:
    sock.setblocking(True)
    said = b""
    with sock:
        while data := sock.recv(4096):
            said += data
    return said


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_answer_brings_a_socket(directory: Path) -> None:
    async def work(_control: Control) -> None:
        before = open_descriptors()
        many = await asyncio.gather(*(ask_for_socket(directory, "box", "hand", 5, say=number) for number in range(50)))
        assert [everything(sock) for sock in many] == [b"%d" % number for number in range(50)]
        while open_descriptors() > before:  # the agent's ends of the connections are closed by its own tasks
            await asyncio.sleep(0.01)

    served(directory, work)


def test_it_comes_after_whatever_was_said_before(directory: Path) -> None:
    async def work(control: Control) -> None:
        def client() -> list[bytes]:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(control.path))
                sock.sendall(b'{"v": 1, "verb": "echo"}\n{"v": 1, "verb": "hand", "arguments": {"say": "it"}}\n{"v": 1, "verb": "echo"}\n')
                lines, descriptors = b"", list[int]()
                while lines.count(b"\n") < 3:
                    data, received, _, _ = socket.recv_fds(sock, 65536, 4)
                    lines, descriptors = lines + data, descriptors + received
                (descriptor,) = descriptors
                assert everything(socket.socket(fileno=descriptor)) == b"it"
                return lines.splitlines()

        answers = [json.loads(line)["answer"] for line in await asyncio.to_thread(client)]
        assert [bool(answer) for answer in answers] == [True, False, True]

    served(directory, work)


@pytest.mark.parametrize(
    ("name", "verb", "code"),
    [("box", "fail", "so"), ("box", "echo", "control"), ("box", "nothing", "no_verb"), ("other", "hand", "no_sandbox")],
)
def test_no_socket_is_an_error(directory: Path, name: str, verb: str, code: str) -> None:
    async def work(_control: Control) -> None:
        with pytest.raises(StockadeError) as failed:
            await ask_for_socket(directory, name, verb, 5)
        assert failed.value.code == code

    served(directory, work)


def test_an_agent_that_says_nothing_is_not_waited_for(directory: Path) -> None:
    """Its name is taken, and nobody serves: stopped, or not yet there."""

    async def main() -> None:
        control = Control.take(directory, "box")
        try:
            before = open_descriptors()
            with pytest.raises(StockadeError, match="the agent of box does not answer"):
                await ask_for_socket(directory, "box", "hand", 0.2, say="")
            assert open_descriptors() == before
            full = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(64)]
            with contextlib.suppress(BlockingIOError):
                for sock in full:
                    sock.connect(str(control.path))
            with pytest.raises(StockadeError, match="does not answer"):
                await ask_for_socket(directory, "box", "hand", 0.2, say="")
            for sock in full:
                sock.close()
        finally:
            control.close()

    asyncio.run(main())
